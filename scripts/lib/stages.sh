# Runs the stages of a test run one after the other, each within a time limit, and tells at the end how they went.
# To be sourced. A stage is a function `stage_NAME`; it runs in a subshell, so that it can neither stop the others nor
# change anything for them.

passed=()
failed=()
skipped=()

# A stage that cannot run here says why and returns this.
readonly SKIP=77

# run_stage NAME SECONDS
run_stage() {
  local name=$1 limit=$2 began=$SECONDS status
  printf '\n=== %s\n' "$name"
  # `timeout` ends the whole process group of the stage, and what does not listen to that is killed.
  timeout --kill-after=20 "$limit" "$BASH" "$self" --stage "$name"
  status=$?
  local took="$name ($((SECONDS - began)) s)"
  case $status in
  0) passed+=("$took") ;;
  "$SKIP") skipped+=("$took") ;;
  124 | 137) failed+=("$took, over its limit of $limit s") ;;
  *) failed+=("$took, exit code $status") ;;
  esac
}

# The last lines of a run; its status is that of the run.
summarise() {
  local one
  printf '\n'
  for one in "${passed[@]}"; do printf '  ok       %s\n' "$one"; done
  for one in "${skipped[@]}"; do printf '  skipped  %s\n' "$one"; done
  for one in "${failed[@]}"; do printf '  FAILED   %s\n' "$one"; done
  printf '%d passed, %d failed' ${#passed[@]} ${#failed[@]}
  if [ ${#skipped[@]} -gt 0 ]; then printf ', %d skipped' ${#skipped[@]}; fi
  printf '\n'
  [ ${#failed[@]} -eq 0 ]
}
