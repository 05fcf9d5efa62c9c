#!/usr/bin/env bash
# Submit a run as dependent Slurm jobs: plan, answer (an array with one shard to a task), publish.
#
#   jobs/submit.sh input=/data/pdfs output=/runs/march shards=16 task=qa task.questions=/data/questions.csv
#
#   shards=16      tasks that share the work
#   at_once=N      how many of them may run at the same time; default: as many as Slurm will
#   gpus=8         GPUs per task; 0 for engine=embedded, and by itself for engine=server
#
# Everything else goes to pipeline.run as it is; engine=vllm unless another is given, since the node that plans may
# have no GPU to see. The same command again does only what is missing, new or changed.
#
# From the environment: DOCBATCH_PYTHON, the interpreter (python3); DOCBATCH_PLAN_OPTIONS, DOCBATCH_ANSWER_OPTIONS
# and DOCBATCH_PUBLISH_OPTIONS, options for sbatch, such as "--partition=cpu --account=…"; SBATCH_… as sbatch has it.
#
# Exit status: 0 submitted; 1 a mistake, nothing is queued; 3 an earlier submission for this output is not over.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=${DOCBATCH_PYTHON:-python3}
shards=16 at_once='' gpus='' output=output engine=engine=vllm registry=''
overrides=()
for argument; do
    case $argument in
        shards=*) shards=${argument#*=} ;;
        at_once=*) at_once=${argument#*=} ;;
        gpus=*) gpus=${argument#*=} ;;
        output=*) output=${argument#*=} ;;
        engine=*) engine=$argument ;;
        engine.registry=*) registry=${argument#*=}; overrides+=("$argument") ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) overrides+=("$argument") ;;
    esac
done
overrides+=("output=$output" "$engine")
[ -n "$gpus" ] || { [ "$engine" = engine=server ] && gpus=0; } || gpus=8    # the GPUs are the servers'

die() { echo "error: $*" >&2; exit 1; }
for number in "shards=$shards" "gpus=$gpus" "at_once=${at_once:-1}"; do
    [[ ${number#*=} =~ ^[0-9]+$ ]] || die "$number: must be a number"
done
[[ $output != s3://* ]] || die "output=$output: jobs need a folder that all nodes see; see docs/storage.md"
((shards > 0)) || die "shards=$shards: must be at least 1"

# A checkout needs no installation; the jobs start in this folder, so that relative paths mean the same there.
export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH} DOCBATCH_PYTHON=$python
"$python" -m pipeline.check "${overrides[@]}" "shard.count=$shards"

journal=$output/_journal
mkdir -p "$journal" "$output/logs"
exec 9> "$journal/submit.lock"
flock -n 9 || { echo "output=$output: is being submitted by another" >&2; exit 3; }

if [ -s "$journal/jobs" ]; then
    ids=$(awk '{printf "%s%s", sep, $2; sep=","}' "$journal/jobs")
    if ! active=$(squeue --noheader --array --jobs="$ids" --format=%i 2>&1); then
        [[ $active == *"Invalid job id"* ]] || die "squeue: $active"
        active=''
    fi
    if [ -n "$active" ]; then
        echo "output=$output: jobs ${ids//,/ } of an earlier submission are not over; wait, or scancel them" >&2
        exit 3
    fi
fi
rm -f "$output/plan.parquet"    # a plan that fails must not leave the tasks another's
: > "$journal/jobs"
[ -z "$registry" ] || mkdir -p "$registry"

submitted=()
give_up() { [ ${#submitted[@]} = 0 ] || scancel "${submitted[@]}"; die "sbatch failed; nothing is left queued"; }

# submit NAME FIRST-SHARD OPTIONS… SCRIPT ARGUMENTS…: submits a job and notes it down for the status.
submit() {
    local name=$1 first=$2 id
    shift 2
    id=$(sbatch --parsable --export=ALL "$@") || give_up
    id=${id%%;*}
    submitted+=("$id")
    echo "$name $id $first" >> "$journal/jobs"
    # Servers of jobs/serve.sbatch stay as long as these are queued or run.
    [ -z "$registry" ] || [ "$name" = publish ] || echo "$id" >> "$registry/jobs"
}

read -ra plan_options <<< "${DOCBATCH_PLAN_OPTIONS:-}"
read -ra answer_options <<< "${DOCBATCH_ANSWER_OPTIONS:-}"
read -ra publish_options <<< "${DOCBATCH_PUBLISH_OPTIONS:-}"

submit plan 0 --output="$output/logs/plan-%j.log" "${plan_options[@]}" \
    "$repository/jobs/plan.sbatch" "${overrides[@]}" "shard.count=$shards"
plan=${submitted[0]}

# An index must be below MaxArraySize: more shards than that are several arrays, which share `at_once`.
most=$(scontrol show config | awk '$1 == "MaxArraySize" {print $3}')
arrays=$(((shards + most - 1) / most))
((gpus == 0)) || answer_options=("--gpus-per-node=$gpus" "${answer_options[@]}")
[ -z "$at_once" ] || throttle=%$((at_once > arrays ? at_once / arrays : 1))
for ((first = 0; first < shards; first += most)); do
    last=$((shards - first < most ? shards - first - 1 : most - 1))
    submit answer "$first" --output="$output/logs/answer-%A_%a.log" --array="0-$last${throttle:-}" \
        --dependency="afterok:$plan" --kill-on-invalid-dep=yes "${answer_options[@]}" \
        "$repository/jobs/answer.sbatch" "$first" "$shards" "$output" "${overrides[@]}"
done

answers=$(IFS=:; echo "${submitted[*]:1}")
submit publish 0 --output="$output/logs/publish-%j.log" --dependency="afterany:$answers" "${publish_options[@]}" \
    "$repository/jobs/publish.sbatch" "${overrides[@]}"

cat << END
plan     ${submitted[0]}
answer   ${submitted[*]:1:arrays}   ($shards shards)
publish  ${submitted[-1]}
follow   $python -m pipeline.status output=$output
logs     $output/logs
stop     scancel ${submitted[*]}
END
