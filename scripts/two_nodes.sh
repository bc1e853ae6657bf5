#!/usr/bin/env bash
# Two nodes on one machine: torchrun in two network namespaces joined by a cable, against one process.
# Needs the right to make namespaces (root); says so and exits 0 where it has not. Usage: scripts/two_nodes.sh [PYTHON]
set -euo pipefail
python=${1:-python}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
name=lossframe$$
if ! ip netns add "$name-0" 2>"$work/why"; then
  echo "skipped: this machine allows no network namespaces ($(cat "$work/why"))"
  exit 0
fi
cleanup() { ip netns del "$name-0" || true; ip netns del "$name-1" || true; rm -rf "$work"; }
trap cleanup EXIT
ip netns add "$name-1"
ip link add "lf$$a" netns "$name-0" type veth peer name "lf$$b" netns "$name-1"
for node in 0 1; do
  device=lf$$$([ $node = 0 ] && echo a || echo b)
  ip -n "$name-$node" addr add 10.77.0.$((node + 1))/24 dev "$device"
  ip -n "$name-$node" link set "$device" up
  ip -n "$name-$node" link set lo up
done
options=('loss=[triplet,center]' weights.center=0.01 trainer.max_epochs=2 trainer.precision=64-true
  trainer.enable_progress_bar=false log_every=5)
cd "$work"
"$python" "$root/train.py" "${options[@]}" hydra.run.dir=one >one.log 2>&1 || { tail one.log; exit 1; }
for node in 0 1; do
  device=lf$$$([ $node = 0 ] && echo a || echo b)
  [ $node = 1 ] && sleep 2   # the second node is late
  GLOO_SOCKET_IFNAME=$device OMP_NUM_THREADS=1 timeout 300 ip netns exec "$name-$node" "$python" -m torch.distributed.run \
    --nnodes 2 --node-rank $node --nproc-per-node 1 --master-addr 10.77.0.1 --master-port 29511 \
    "$root/train.py" trainer=multi_node trainer.num_nodes=2 trainer.devices=1 trainer.accelerator=cpu \
    "${options[@]}" >"node$node.log" 2>&1 &
done
for job in $(jobs -p); do wait "$job" || { tail -n 20 node?.log; exit 1; }; done
folders=(runs/*)
[ ${#folders[@]} = 1 ] || { echo "wanted one folder, found ${folders[*]}"; exit 1; }
"$python" "$root/scripts/compare_runs.py" one "${folders[0]}"
