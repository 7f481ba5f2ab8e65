# The servers of scripts/mesh-up: where they are kept, and which processes are ours. To be sourced; $root is the repository.
# A server NAME has its directory $mesh_dir/NAME with `data`, `log` and `pid`.

mesh_dir=${SPARKMESH_MESH_DIR:-${CARGO_TARGET_DIR:-$root/target}/mesh}

# The newest binary that cargo has built, unless SPARKMESH_BIN names one.
find_binary() {
  local target=${CARGO_TARGET_DIR:-$root/target} found
  if [ -n "${SPARKMESH_BIN:-}" ]; then
    found=$SPARKMESH_BIN
  else
    found=$(ls -t "$target/release/sparkmesh" "$target/debug/sparkmesh" 2>/dev/null | head -n 1)
  fi
  [ -x "$found" ] || {
    echo "there is no binary: run \`cargo build --release\`, or set SPARKMESH_BIN" >&2
    return 1
  }
  echo "$found"
}

# Whether somebody listens at that port of 127.0.0.1.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# status_of PORT PATH: the HTTP status, or nothing.
status_of() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    read -r -t 6 _ status _ <&3 && echo "$status"
  ) 2>/dev/null || true
}

# is_ours DIRECTORY: its process lives, and is the server we started there: a pid may be somebody else's by now.
is_ours() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
    tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$1/data"
}

running_servers() {
  local home
  for home in "$mesh_dir"/*/; do
    home=${home%/}
    if is_ours "$home"; then echo "$home"; fi
  done
}

# end_servers SECONDS: all that we have started get SIGTERM, and those that still live after that time SIGKILL.
end_servers() {
  local limit=$1 homes home waited=0
  mapfile -t homes < <(running_servers)
  for home in "${homes[@]}"; do kill -TERM "$(cat "$home/pid")" 2>/dev/null || true; done
  while [ -n "$(running_servers)" ] && [ $waited -lt $((limit * 10)) ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  for home in "${homes[@]}"; do
    if is_ours "$home"; then
      echo "$(basename "$home") did not end within $limit s and is killed" >&2
      kill -KILL "$(cat "$home/pid")" 2>/dev/null || true
    fi
    rm -f "$home/pid"
  done
  ended=${#homes[@]}
}
