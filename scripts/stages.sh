# Stages of a check, each with what it took and how it ended; sourced after lib.sh.

failed=()
logs=$(mktemp -d)

# stage NAME LIMIT COMMAND… runs a command for at most LIMIT and notes how it
# ended.
stage() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  printf '\n=== %s\n' "$name"
  timeout --kill-after=10s "$limit" "$@" || status=$?
  case $status in
    0) printf '=== %s: ok, %d s\n' "$name" $((SECONDS - start)) ;;
    *)
      printf '=== %s: FAILED (status %d), %d s\n' "$name" "$status" $((SECONDS - start))
      failed+=("$name")
      ;;
  esac
}

# beside runs stages, one after another, while others run: NAME LIMIT COMMAND, as
# texts, and again for the next. joined waits for them and tells how they ended.
# It is for what compiles and checks: a test that measures a time has the machine
# to itself.
beside() {
  (
    failed=()
    while [ $# -gt 0 ]; do
      # shellcheck disable=SC2086 # the words are meant to be split
      stage "$1" "$2" $3
      shift 3
    done > "$logs/beside" 2>&1
    printf '%s\n' "${failed[@]}" > "$logs/beside.failed"
  ) &
  beside=$!
}

joined() {
  wait "$beside" || true
  cat "$logs/beside"
  local name
  while read -r name; do
    [ -z "$name" ] || failed+=("$name")
  done < "$logs/beside.failed"
}

# needed ends the run if something failed that all the rest stands on.
needed() {
  [ ${#failed[@]} = 0 ] || summary
}

# summary prints what failed and ends the run.
summary() {
  printf '\n=== %d s in all\n' "$SECONDS"
  if [ ${#failed[@]} != 0 ]; then
    printf '=== FAILED:'
    printf ' [%s]' "${failed[@]}"
    printf '\n'
    exit 1
  fi
  printf '=== all ok\n'
  exit 0
}
