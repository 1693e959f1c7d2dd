#!/usr/bin/env bash
# Make .venv beside this file, then run the four pipelines in order, one verb, or the
# tests.
# run.bat is its twin for Windows: what changes here changes there
# (tests/test_run_scripts.py compares their steps).
#
# Pipelines and verbs run in the caller's current folder, so that relative paths in the
# arguments, and the default `artifacts`, mean what they mean to the caller. The tests
# run in the folder of this file, where pytest finds its configuration.
set -u
# Libraries are installed uncompiled: compiled files of what is imported are kept, or each
# start would compile all of it anew.
unset PYTHONDONTWRITEBYTECODE

repo=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) || exit 1
venv="$repo/.venv"
python="$venv/bin/python"

usage() {
    cat <<'TEXT'
Usage: ./run.sh [OPTIONS]         run the four pipelines on built-in or your own data
       ./run.sh VERB [OPTIONS]    anything else: refresh, axes, channels, baskets, serve
       ./run.sh help              list the verbs; ./run.sh VERB --help explains one
       ./run.sh test [OPTIONS]    run the tests; the options are pytest's

Options, each passed on to all four pipelines:
  --input PATH       your rows: CSV, Parquet or Excel; file, folder, glob or s3://
  --source NAME      sample (default, built in, offline) or kaggle
  --features NAME    behaviour (default) or baseline
  --artifacts DIR    folder of the results (default: artifacts, where you are)
  --config FILE      YAML file with any part of the configuration
  --seed N           seed of everything random (default: 42)

The first run makes a virtual environment, which takes some minutes; later runs use it.
PYTHON=/path/to/python chooses the interpreter it is made with (3.11 to 3.13).
TEXT
}

# end_if_failed CODE STEP: say which step failed and end with its exit code. A step that
# was interrupted or terminated has said so itself.
end_if_failed() {
    [ "$1" -eq 0 ] && return
    [ "$1" -eq 130 ] || [ "$1" -eq 143 ] ||
        echo "run.sh: step failed: $2 (exit code $1)" >&2
    exit "$1"
}

# The lower bound is the project's; the upper one is that of the TensorFlow release in
# constraints.txt and moves with it.
fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

# Print the first interpreter that fits: $PYTHON alone if it is set, else python3, else
# one installed beside it.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11 python
    fi
    for candidate in "$@"; do
        if fits "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    {
        echo "run.sh: Python 3.11, 3.12 or 3.13 is needed. Found:"
        for candidate in "$@"; do
            if command -v "$candidate" >/dev/null 2>&1; then
                echo "  $candidate: $("$candidate" --version 2>&1)"
            else
                echo "  $candidate: not there"
            fi
        done
        echo "Install one of these, or name it: PYTHON=/path/to/python ./run.sh"
    } >&2
    return 1
}

make_venv() {
    local base
    base=$(find_python) || exit 1
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "run.sh: $base has no module \`venv\` or \`ensurepip\`." \
            "On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "run.sh: making $venv"
    # The newest pip: an older one takes half as long again.
    "$base" -m venv --clear --upgrade-deps "$venv"
    end_if_failed $? "python -m venv"
}

# prepare [EXTRA]: bring .venv up to date; see core/stamp.py for the exit codes.
prepare() {
    "$python" -I "$repo/core/stamp.py" begin ${1+"$1"} 2>/dev/null
    case $? in
        0) return ;;
        10) ;;
        *) make_venv ;;
    esac
    echo "run.sh: installing the project (some minutes the first time)"
    "$python" -I "$repo/core/stamp.py" install ${1+"$1"}
    end_if_failed $? "python -m pip install"
}

# A request to terminate may reach this script alone: it is handed to the running step,
# which says what stands. Bash would keep it until the step has ended by itself, so the
# step runs in the background; there Ctrl-C, which reaches both, is to work as well.
run_script() {
    local script=$1 code
    shift
    trap 'kill -TERM "$!" 2>/dev/null || exit 143' TERM
    trap : INT
    (
        trap - INT TERM
        exec "$python" "$repo/$script" "$@"
    ) <&0 &
    # A signal ends `wait` before the step has ended.
    wait "$!"
    code=$?
    while kill -0 "$!" 2>/dev/null; do
        wait "$!"
        code=$?
    done
    end_if_failed "$code" "$script"
}

# -P: a folder `core` where the caller is must not be taken for the project's.
# Standard output belongs to the verb.
run_verb() {
    prepare >&2
    exec "$python" -P -m core "$@"
}

case ${1:-} in
    -h | --help)
        usage
        ;;
    help | --version)
        run_verb "--${1#--}"
        ;;
    test)
        shift
        prepare test
        cd -- "$repo" || exit 1
        # A file goes to one process whole, since its tests share what they train.
        "$python" -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
            --no-loadscope-reorder "$@"
        end_if_failed $? "python -m pytest"
        ;;
    [!-]*)
        run_verb "$@"
        ;;
    *)
        prepare
        run_script feature-preparation-pipeline.py "$@"
        run_script autoencoder-training-pipeline.py "$@"
        run_script clustering-training-pipeline.py "$@"
        run_script clustering-inference-pipeline.py "$@"
        ;;
esac
