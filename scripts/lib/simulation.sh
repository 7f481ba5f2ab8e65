# Building and playing the simulation, for scripts/simulate and scripts/mutants.

# Worlds that one process plays: what a server's life leaves behind in memory ends with it.
chunk=${SPARKMESH_SIM_CHUNK:-25}

# Optimised, with the checks of a debug build; the dependencies are those of the other tests. Prints the binary.
build_simulation() {
  CARGO_PROFILE_DEV_OPT_LEVEL=${SPARKMESH_SIM_OPT:-2} cargo test --locked --quiet --test sim --no-run --message-format=json 2>"${SIM_LOG:-/dev/stderr}" |
    sed -n 's/.*"executable":"\([^"]*\/sim-[^"]*\)".*/\1/p' | tail -n 1 | grep .
}

# Plays the seeds $3 to $4 of the profile $2 with the binary $1, $5 processes at a time. Prints what failed, and the sum.
play_seeds() {
  local begun=$SECONDS played
  played=$(mktemp)
  seq "$3" "$chunk" "$4" | while read -r from; do
    to=$((from + chunk - 1))
    echo "$from..$((to < $4 ? to : $4))"
  done | SPARKMESH_PROFILE=$2 RUST_BACKTRACE=0 xargs -P "$5" -I @@ \
    env SPARKMESH_SEEDS=@@ "$1" one_seed --exact --nocapture 2>/dev/null | tee "$played" |
    grep -v -e '^running ' -e '^test ' -e '^test result' -e '^$' -e ' worlds (' -e '^failures:'
  awk -v profile="$2" -v took="$((SECONDS - begun))" -v want="$(($4 - $3 + 1))" '
    / worlds \(/ {
      worlds += $1
      for (at = 2; at <= NF; at++) {
        word = $at; gsub(/[;,]/, "", word)
        if (word == "faults") faults += $(at - 1)
        if (word == "sent") sent += $(at - 1)
        if (word == "confirmed") confirmed += $(at - 1)
        if (word == "received") received += $(at - 1)
        if (word == "again" ) again += $(at - 3)
        if (word == "late") late += $(at - 1)
      }
      list = $0; sub(/.*failed: \[/, "", list); sub(/\].*/, "", list)
      if (list != "") failed = failed (failed == "" ? "" : ", ") list
    }
    END {
      printf "%s: %d worlds in %d s, %d faults, %d sent, %d confirmed, %d received, %d of them again, %d late; failed: [%s]\n",
        profile, worlds, took, faults, sent, confirmed, received, again, late, failed
      if (worlds != want) { printf "%s: %d worlds did not come to their end\n", profile, want - worlds; exit 1 }
      exit failed != ""
    }' "$played"
  local result=$?
  rm -f "$played"
  return $result
}
