# What the tests need beside Rust, installed where it is missing and left alone where it is not. To be sourced.
# Everything is asked for by name from the machine's own package sources: Debian's with apt-get, Python's with pip into a
# virtual environment under target/, Node's with npm beside the tests that use it.

venv=$target/e2e-venv

has() { command -v "$1" >/dev/null 2>&1; }

# As root, directly or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

system_tools() {
  local missing=()
  has cc || missing+=(gcc libc6-dev)
  has c++ || missing+=(g++)
  has chromium || missing+=(chromium)
  has openssl || missing+=(openssl)
  has node || missing+=(nodejs)
  has npm || missing+=(npm)
  has nginx || [ -x /usr/sbin/nginx ] || missing+=(nginx)
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
  has python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
  [ ${#missing[@]} -eq 0 ] && return
  has apt-get || {
    echo "these are missing, and there is no apt-get to install them with: ${missing[*]}" >&2
    return 1
  }
  echo "installing ${missing[*]}"
  as_root apt-get update -qq
  without_services as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Runs a command while packages start no services (Debian's policy-rc.d): nobody asked for an nginx on port 80.
without_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  [ ! -e "$policy" ] || {
    "$@"
    return
  }
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  "$@" || status=$?
  as_root rm -f "$policy"
  return "$status"
}

# installed STAMP FILE COMMAND...: runs the command unless it has been run for just this file.
installed() {
  local stamp=$1 file=$2
  shift 2
  [ -f "$stamp" ] && cmp -s "$stamp" "$file" && return
  "$@"
  cp "$file" "$stamp"
}

python_tools() {
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  installed "$venv/requirements.installed" tests/e2e/requirements.txt \
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
}

node_tools() {
  installed clients/js/node_modules/lock.installed clients/js/package-lock.json \
    npm ci --prefix clients/js --silent --no-audit --no-fund
  installed tests/e2e/node/node_modules/lock.installed tests/e2e/node/package-lock.json \
    npm ci --prefix tests/e2e/node --silent --no-audit --no-fund
}

rust_tools() {
  has cargo || {
    echo "Rust is missing: install it with rustup (https://rustup.rs), or from your distribution" >&2
    return 1
  }
  local component
  for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
  done
}
