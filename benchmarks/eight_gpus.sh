#!/usr/bin/env bash
# Measure the shape of Pixtral-Large on one host with 8 GPUs, as benchmarks/gpu.py does on fewer; about 30 minutes.
#
#   bash benchmarks/eight_gpus.sh FOLDER-OF-PDFS benchmarks/results
#
# In order: bf16 over all 8, as the model card runs it; the same with each GPU encoding whole images; two copies in FP8,
# 4 GPUs each; eight of one GPU each, with less than half the context; bf16 without CUDA graphs. What one of them
# measured is written before the next begins.
set -uo pipefail

documents=$1 results=$2
# Multicast over NVLink needs rights that containers often lack, and then hangs.
export NCCL_NVLS_ENABLE=0

measure() {
    local name=$1
    shift
    python3 benchmarks/gpu.py "$documents" "$results/gpu-8-$name.json" "$@" --model pixtral_large --requests 32 6 2 \
        > "$results/gpu-8-$name.log" 2>&1 || echo "$name: failed, see its log" >&2
    tail -n 20 "$results/gpu-8-$name.log"
}

measure bf16 engine.tensor_parallel=8 --questions 1 4 8 --pipeline-pages 240 240 240
measure bf16-images-whole engine.tensor_parallel=8 +engine.args.mm_encoder_tp_mode=data --budgets 8192 --measure sweep
measure fp8-two-copies engine.quantization=fp8 engine.tensor_parallel=4 engine.replicas=2 --budgets 8192 \
    --measure sweep pipeline --pipeline-sizes 8 30 --pipeline-pages 240 240
measure fp8-eight-copies engine.quantization=fp8 engine.tensor_parallel=1 engine.replicas=8 \
    +engine.args.kv_cache_dtype=fp8 engine.gpu_memory_utilization=0.97 model.context_tokens=57344 \
    --budgets 8192 --sizes 1 8 16 --measure sweep pipeline --pipeline-sizes 8 --pipeline-pages 160
measure bf16-eager engine.tensor_parallel=8 engine.eager=true --measure sweep
