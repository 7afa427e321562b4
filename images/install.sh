#!/bin/sh
# Installs what it is told into /opt/venv and leaves out what no process reads: tests, headers, symbols. Run by the
# Dockerfile with the stage `tools` mounted on /tools, so that uv and strip are in no image.
#
#   sh install.sh --no-deps --require-hashes -r serving.txt
set -eu
python=/opt/venv/bin/python
libraries=$("$python" -c 'import site; print(site.getsitepackages()[0])')

began=$(mktemp)
UV_LINK_MODE=copy /tools/opt/uv/bin/uv pip install --no-config --python "$python" "$@"

cd "$libraries"
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.a' \) -delete
# Used by nobody here: Arrow's remote procedure calls and own tests; second and
# third names of a library (a wheel has no links); ONNX Runtime once more, for programs in C; SQLAlchemy's test suite;
# Feast's web page.
rm -rf pyarrow/include pyarrow/src pyarrow/*flight* pyarrow/*_cpp_tests* sqlalchemy/testing feast/ui
rm -f pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*.* onnxruntime/capi/libonnxruntime.so.*

# A quarter of these is symbols for debuggers. Named one by one: strip breaks libraries that a wheel's builder patched.
# Only what was installed just now: a file of the layer below would be written once more.
export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(echo /tools/usr/lib/*-linux-gnu)
find . -cnewer "$began" \( -path './_polars_runtime_32/*.so' -o -path './pyarrow/libarrow*.so.*' -o -path './uvloop/loop*.so' \) \
  -exec /tools/usr/bin/strip --strip-unneeded {} +
unset LD_LIBRARY_PATH
rm "$began"

# The root file system is read-only: what is not compiled now is compiled at every start. Some packages carry files
# that are no Python of this version, which compileall would fail for.
"$python" -m compileall -q -q -j 0 . || true
