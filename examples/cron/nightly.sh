#!/bin/sh
# Runs a plan at night and speaks up only when somebody has to do something:
# cron mails whatever a job prints, and a run that went well prints nothing.
#
#   nightly.sh PLAN [FLAG...]
#
# The hub's connection string stands alone in a file that only the user of this
# job can read. The reports of the last thirty runs are kept.
set -eu

plan=$1
shift
runner=${RUNNER:-runner}
reports=${REPORTS:-$HOME/reports}
secret=${SECRET_FILE:-$HOME/.config/runner/connection-string}

mkdir -p "$reports"
report=$reports/$(basename "$plan" .yaml)-$(date -u +%Y%m%dT%H%M%SZ)-$$.json

# A run that is still going on after ten minutes has a lock: this one then ends
# with 6 and sends nothing.
code=0
"$runner" apply --quiet --connection-string-file "$secret" --lock-timeout 10m \
    --report "$report" "$@" "$plan" || code=$?

case $code in
0) ;;
1) echo "some devices did not do it; the report is $report" ;;
5) echo "stopped before all devices were reached; the report is $report" ;;
6) echo "the run before this one is still under way" ;;
*) echo "nothing or not everything was done (exit code $code)" ;;
esac

# Names of one plan sort by time, so the oldest come first.
surplus=$(($(ls "$reports" | wc -l) - 30))
if [ "$surplus" -gt 0 ]; then
    ls "$reports" | sed -n "1,${surplus}p" | while read -r old; do
        rm -f "$reports/$old"
    done
fi
exit "$code"
