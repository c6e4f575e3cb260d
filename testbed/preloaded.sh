#!/bin/bash
# preloaded.sh PROGRAM ARGUMENTS: becomes the runtime that PROGRAM's launcher would become, with
# LD_PRELOAD and FAKETIME…, which the launcher does not pass on.
set -eu
mapfile -t mine < <(env | grep -E '^(LD_PRELOAD|FAKETIME)')
for variable in "${mine[@]}"; do unset "${variable%%=*}"; done

program=$(readlink -f "$1")
"$@" > /dev/null 2>&1 &
for ((n = 0; n < 20000; n++)); do
  runtime=$(readlink "/proc/$!/exe")
  case $runtime in "$program" | */bash) sleep 0.001 ;; *) break ;; esac
done
mapfile -d '' args < "/proc/$!/cmdline"
mapfile -d '' variables < "/proc/$!/environ"
# It has not yet begun to run the program.
kill -9 $!
exec env -i "${variables[@]}" "${mine[@]}" "$runtime" "${args[@]:1}"
