#!/usr/bin/env bash
# The whole experiment: teacher, samples, student, evaluation.
#     ./run.sh                               scikit-learn's digits: no download, under five minutes on two CPU cores
#     ./run.sh configs/cifar10.yaml          any config
#     ./run.sh configs/two_moons.yaml        one with `rows`: methods beside each other, by compare.py
#     ./run.sh configs/digits.yaml --seed 1 --name digits-1     with any field overridden
# The same command again continues or skips what is done; --overwrite starts anew.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")"
config=configs/digits.yaml
if [[ $# -gt 0 && $1 != -* ]]; then
    config=$1
    if [[ ! -f $config && -f $here/$config ]]; then
        config=$here/$config
    fi
    shift
elif [[ " $*" == *" --config"* ]]; then
    echo "error: name the config without --config, before all options: ./run.sh birds.yaml" >&2
    exit 2
fi
if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then
    sed -n 's/^# //p' run.sh
    echo "Any setting can be given as an option: configs/schema.py says what there is, and each script's --help which it uses."
    exit
fi
if [[ ! -f $config ]]; then
    echo "error: no config file $config; there are: $(ls configs/*.yaml configs/*/*.yaml | xargs)" >&2
    exit 2
fi
source venv.sh
if grep -q '^rows:' "$config"; then
    exec python compare.py --config "$config" "$@"
fi
python train_teacher.py --config "$config" "$@"
python train_student.py --config "$config" "$@"
python evaluate.py --config "$config" "$@"
if [[ $config == configs/digits.yaml ]]; then
    echo "The same on CIFAR-10: ./run.sh configs/cifar10_cpu.yaml (several hours on two CPU cores; downloads 0.6 GB if the images are not in datasets/)"
fi
