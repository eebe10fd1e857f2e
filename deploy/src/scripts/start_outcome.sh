# After service_report.sh, stability_gate.sh. What a start by compose has come to.

# judge_start BEFORE AFTER [IDS]: what ran before `compose up` and after it, with the outcome of that in $up, and all of the
# project's containers where they're known. Returns if all is stable, else it ends the script with the verdict and the end of the log.
judge_start() {
    if [ "$1" = "$2" ]; then tell change unchanged; else tell change changed; fi
    # Nothing more will start: what is there shows soon why.
    if [ "$up" = failed ]; then patience=10; fi
    if [ -n "${3:-}" ]; then gate_on $3; else gate; fi
    if [ "$answer" = ok ] && [ "$up" = "done" ]; then return; fi
    tell phase "$up"
    tell verdict "${answer% *}"
    case $answer in *' '*) docker logs --tail 30 "${answer##* }" >&2 || : ;; esac
    if [ -n "${next:-}" ]; then forget_next; fi
    exit 4
}
