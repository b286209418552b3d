#!/usr/bin/env bash
# A worker for graflow-sidecar in Bash (4.3 or later) with jq.
#
#   sidecar run -- bash docs/workers/worker.sh
#   sidecar worker test -- bash docs/workers/worker.sh
#
# It counts words, of a text or of a file, and waits, one task at a time:
#
#   {"task_id": "words_1", "session_id": "s", "params": {"text": "to be or not to be"}}
#   {"task_id": "wait_1", "session_id": "s", "params": {"seconds": 2}}
#
# The main shell alone reads and writes messages. A task runs in the background
# and says with a signal that it has ended: traps run while read waits. The rules
# (P1, P2 …) are those of protocol/PROTOCOL.md.
exec 3>&1 1>&2 # stdout belongs to the protocol: prints are log lines (P14)
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
queue=() running='' task='' cancelled='' draining='' stopping='' limit=$((16 << 20))

send() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$1" "$2" >&3; } # the id comes first (P11)
fail() { send "$1" "\"error\":{\"code\":$2,\"message\":\"$3\"}"; }

# work does the task $1, {"kind": …, "params": {…}}, and prints the result of its
# task/run.
work() {
  trap '' INT TERM # a stop of the whole control group does not cut it short (P40)
  local type=params message seconds path
  case $(jq -r .kind <<< "$1") in
    wait)
      seconds=$(jq '.params.seconds // 1' <<< "$1")
      sleep "$seconds" && printf '{"status":"succeeded","value":{"waited":%s}}' "$seconds" && return
      message='params.seconds is no number' ;;
    words)
      path=$(jq -r '.params.path // ""' <<< "$1")
      if [ -f "$path" ]; then
        printf '{"status":"succeeded","value":{"words":%d}}' "$(wc -w < "$path")" && return
      elif [ -n "$path" ]; then
        type=missing message="$path is not there" # it may be there later (P24)
      elif jq -e '.params.text | strings | true' <<< "$1" > /dev/null; then
        printf '{"status":"succeeded","value":{"words":%d}}' "$(jq -r .params.text <<< "$1" | wc -w)" && return
      else
        message='params.text or params.path is wanted'
      fi ;;
    *) type=unknown message='this worker does words and wait' ;;
  esac
  jq -nc --arg type "$type" --arg message "$message" \
    '{status: "failed", error: {type: $type, message: $message, retryable: ($type == "missing")}}'
}

next() { # starts the next task, or leaves if that is wanted
  if [ -z "$running" ] && [ ${#queue[@]} -gt 0 ]; then
    task=${queue[0]%%:*} # queue holds ID:TASK
    set -m # a process group of its own: Ctrl-C is not for it, and a cancel ends all of it
    { work "${queue[0]#*:}" > "$output"; kill -USR1 $$; } 3>&- < /dev/null &
    set +m
    running=$! queue=("${queue[@]:1}")
  fi
  [ -z "$stopping" ] || [ -n "$running" ] || exit 0 # stdin is still open (P37)
}

ended() { # answers the task that has ended, if it has
  [ -n "$running" ] && ! kill -0 "$running" 2> /dev/null || return 0
  if [ -n "$cancelled" ]; then
    fail "$task" -32800 cancelled
  elif [ -s "$output" ]; then
    send "$task" "\"result\":$(< "$output")"
  else
    send "$task" '"result":{"status":"failed","error":{"message":"the task ended without a result"}}'
  fi
  running='' cancelled=''
  next
}

hand_back() {
  local waiting
  for waiting in "${queue[@]}"; do fail "${waiting%%:*}" -32001 'not started: the worker is stopping'; done
  queue=()
}

drain() { # a signal of our own: finish what runs, and wait for shutdown (P40)
  [ -n "$draining" ] || printf '{"jsonrpc":"2.0","method":"$/draining"}\n' >&3
  draining=1
  hand_back
}

cancel() { # gives up the task with the id $1
  local i
  if [ -n "$running" ] && [ "$task" = "$1" ]; then
    cancelled=1
    kill -KILL -- "-$running"
    wait "$running"
    ended
  fi
  for i in "${!queue[@]}"; do
    [ "${queue[i]%%:*}" != "$1" ] || { unset 'queue[i]'; fail "$1" -32800 cancelled; }
  done
  queue=("${queue[@]}")
}

# One jq reads all messages and makes short lines of them: SIZE METHOD ID VERSION
# LIMIT TARGET TASK. It gives up on what nests deeper than 256 (jq 1.6) and on half
# a surrogate pair: of such a message the first bytes still tell the id (P11).
digest='rtrimstr("\r") as $line
  | (try ($line | fromjson) catch ($line[0:256] | capture("\"id\":(?<id>[0-9]+),\"method\":\"(?<method>[^\"]+)\"")))
  | ([($line | utf8bytelength), .method, .id, (.params | .protocolVersion?, .limits?.maxMessageBytes?, .id?)]
      | map(if . == null then "-" else tostring end) | join(" "))
    + " " + (.params.record? | {kind: (.task_id? | tostring | split("_")[0]), params: .params?} | tojson)'
exec < <(trap '' INT TERM; exec jq -Rr --unbuffered "$digest" 2> /dev/null)

trap 'wait "$running"; ended' USR1
trap drain TERM INT
while line=''; do
  # A signal that comes just before read starts to wait does not interrupt it, nor
  # does the death of a task that could not send one: hence a look every second.
  until IFS= read -r -t 1 part; do
    [ $? -gt 128 ] || { [ -z "$running" ] || cancel "$task"; exit 1; } # the sidecar is gone (P38)
    line+=$part
    ended
  done
  line+=$part
  read -r size method id version max target details <<< "$line"
  [ "$size" -le "$limit" ] || continue # P4
  case $method in
    initialize)
      [ "$version" -ge 1 ] || { fail "$id" -32602 'this worker speaks version 1'; continue; }
      limit=$max
      send "$id" '"result":{"protocolVersion":1,"worker":{"name":"words-in-bash","version":"1.0"},"concurrency":1,"capabilities":{}}' ;;
    ping) send "$id" '"result":{}' ;;
    task/run)
      if [ -n "$draining$stopping" ]; then fail "$id" -32001 'not started: the worker is stopping'; continue; fi
      queue+=("$id:$details")
      next ;;
    \$/cancelRequest) cancel "$target" ;;
    shutdown) stopping=1; hand_back; next ;;
    *) [ "$id" = - ] || fail "$id" -32601 'no such method' ;;
  esac
done
