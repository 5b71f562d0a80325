#!/usr/bin/env bash
# launch/mpirun: which exit status comes through, and how a request to save and stop travels. The ranks are shells.
set -uo pipefail
cd "$(dirname "$0")/../.."
failures=0
expect() {  # STATUS WHAT COMMAND...
  local wanted=$1 what=$2 got
  shift 2
  timeout 60 "$@" >/dev/null 2>&1
  got=$?
  if [ $got != "$wanted" ]; then
    echo "FAILED $what: exit status $got, $wanted was expected"
    failures=$((failures + 1))
  fi
}
ranks() { echo launch/mpirun -n 2 bash -c; }

for status in 0 2 3 4 5 6 7 8; do
  expect $status "all ranks exit with $status" $(ranks) "exit $status"
done
expect 7 "a killed rank" $(ranks) '[ $OMPI_COMM_WORLD_RANK = 0 ] || kill -KILL $$; sleep 2'
expect 7 "a crashed rank" $(ranks) '[ $OMPI_COMM_WORLD_RANK = 0 ] || kill -SEGV $$; sleep 2'
expect 2 "no ranks" launch/mpirun -n 0 true
expect 2 "no command" launch/mpirun -n 2
expect 2 "a command that is not there" launch/mpirun -n 2 ./no-such-program
expect 3 "no Open MPI" env PATH=/nowhere /bin/bash launch/mpirun -n 2 true

# mpirun's own 1: the run's word counts if it is of this start.
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
say='echo "{\"exit_status\": 7}" >'"$run/status.json; sleep 1; exit 1"
expect 7 "1, but status.json says 7" $(ranks) "$say" train recipe.yaml "run.directory=$run"
touch -d '1 hour ago' "$run/status.json"
expect 1 "1, and an old status.json" $(ranks) 'exit 1' train recipe.yaml "run.directory=$run"

# SIGUSR1, SIGTERM: the ranks get SIGUSR1 and the time to save.
for signal in USR1 TERM; do
  rm -f "$run"/ready.*
  launch/mpirun -n 2 bash -c 'trap "sleep 2; exit 6" USR1; touch '"$run"'/ready.$OMPI_COMM_WORLD_RANK; while :; do sleep 0.1; done' &
  for _ in $(seq 200); do [ -e "$run/ready.0" ] && [ -e "$run/ready.1" ] && break || sleep 0.1; done
  kill -$signal $!
  wait $!
  got=$?
  if [ $got != 6 ]; then
    echo "FAILED save at SIG$signal: exit status $got, 6 was expected"
    failures=$((failures + 1))
  fi
done

[ $failures = 0 ] && echo "all passed"
exit $failures
