#!/bin/sh
# Breaks one process of a platform: faults.sh READY ACTION NAME [SECONDS]
#
#   READY    file with the ready line of `attune up --separate --json`, such as run.json of its state folder
#   ACTION   kill      SIGKILL; `attune up` starts a service again
#            freeze    SIGSTOP for SECONDS: connections stay, nothing answers; then SIGCONT
#            slow      SIGSTOP for half of each 100 ms, SECONDS long
#   NAME     a name under "pids" of the ready line, such as ranking
#
# A pid of the line that no longer belongs to the name is refused: a service that was started again has another one.
set -eu

fail() { echo "faults.sh: $1" >&2; exit 64; }
[ $# -ge 3 ] || fail 'READY ACTION NAME [SECONDS]'
ready=$1 action=$2 name=$3 seconds=${4:-5}
case $seconds in *[!0-9]*|'') fail "SECONDS must be a whole number, not $seconds" ;; esac
case $name in *[!a-z-]*|'') fail "$name is no name of a process" ;; esac
[ -r "$ready" ] || fail "cannot read $ready"

pid=$(tr -d '\n' <"$ready" | sed -n 's/.*"pids":{[^}]*"'"$name"'":\([0-9]*\)[,}].*/\1/p')
[ -n "$pid" ] || fail "$ready names no pid of $name: is it of up --separate?"
case $name in kafka|redis) program=$name ;; *) program="service $name " ;; esac
tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$program" || fail "process $pid is not $name any more"

case $action in
  kill) kill -KILL "$pid" ;;
  freeze)
    trap 'kill -CONT "$pid"' EXIT
    kill -STOP "$pid"
    sleep "$seconds"
    ;;
  slow)
    trap 'kill -CONT "$pid"' EXIT
    rounds=$((seconds * 10))
    while [ $rounds -gt 0 ]; do
      kill -STOP "$pid"; sleep 0.05; kill -CONT "$pid"; sleep 0.05
      rounds=$((rounds - 1))
    done
    ;;
  *) fail "ACTION must be kill, freeze or slow, not $action" ;;
esac
