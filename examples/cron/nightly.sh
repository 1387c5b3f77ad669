#!/bin/sh
# Runs a plan at night and speaks up only when somebody has to do something:
# cron mails whatever a job prints, and a run that went well prints nothing.
#
#   nightly.sh PLAN [FLAG...]
#
# The hub's connection string stands alone in a file that only the user of this
# job can read. The last thirty reports of each plan are kept.
set -eu

plan=$1
shift
runner=${RUNNER:-runner}
reports=${REPORTS:-$HOME/reports}
secret=${SECRET_FILE:-$HOME/.config/runner/connection-string}

mkdir -p "$reports"
name=$(basename "$plan" .yaml)
report=$reports/$name-$(date -u +%Y%m%dT%H%M%SZ)-$$.json

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

# Names end with the time, so those of one plan sort by it, oldest first. The
# digits keep the reports of a plan whose name merely begins the same.
old() { ls "$reports" | grep -E "^$name-[0-9]{8}T[0-9]{6}Z-[0-9]+\.json$"; }
surplus=$(($(old | wc -l) - 30))
if [ "$surplus" -gt 0 ]; then
    old | sed -n "1,${surplus}p" | while read -r file; do
        rm -f "$reports/$file"
    done
fi
exit "$code"
