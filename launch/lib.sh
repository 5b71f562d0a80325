# Shared by launch/quickstart and launch/test: what a phase prints, the checks of the machine, and the release build.
# Sourced from the top of the tree; not a program.

fail() {  # STATUS PLACE TEXT
  echo "fourmi: error: $2: $3" >&2
  exit "$1"
}

seconds() { date +%s.%N; }
begun=$(seconds)

# One phase is one line: its name, what came of it, and how long it took. Between them a terminal shows how far it is.
phase() { phase_name=$1 phase_begun=$(seconds); progress "${2:-...}"; }
progress() { [ ! -t 1 ] || printf '\r%-10s %-66.66s' "$phase_name" "$1"; }
done_phase() {
  [ ! -t 1 ] || printf '\r'
  printf '%-10s %-66s %7.1f s\n' "$phase_name" "$1" "$(awk "BEGIN { print $(seconds) - $phase_begun }")"
}

check_machine() {
  phase machine
  [ "$(uname -m)" = x86_64 ] || fail 3 "this machine" "$(uname -m) was found, x86-64 with AVX2 was expected."
  local flags flag
  flags=" $(awk -F: '/^flags/ { print $2; exit }' /proc/cpuinfo) "
  for flag in avx2 fma bmi2 f16c; do
    [[ $flags == *" $flag "* ]] || fail 3 "this machine" "a processor without $flag was found, x86-64 with AVX2 was expected."
  done
  local widest=AVX2
  [[ $flags != *" avx512_bf16 "* ]] || widest="AVX-512 with bf16"
  local system=unknown
  [ ! -r /etc/os-release ] || system=$(. /etc/os-release && echo "${PRETTY_NAME:-$ID}")
  done_phase "$system, $(nproc) cores, $widest"
}

# install_missing ARGUMENTS: those of launch/install.
install_missing() {
  phase install
  local said
  said=$(launch/install "$@") || exit $?
  done_phase "$said"
}

# One build at a time in a folder.
lock_build() {
  mkdir -p build
  exec 9>build/.lock
  flock -n 9 || fail 3 build "another launch/quickstart or launch/test holds it, nobody was expected. Wait for it to end."
}

# Path of an nvcc of version 13 or newer, or nothing.
cuda_compiler() {
  local nvcc
  for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc; do
    [ -x "$nvcc" ] || continue
    [ "$("$nvcc" --version | sed -n 's/.* release \([0-9]*\).*/\1/p')" -ge 13 ] 2>/dev/null || continue
    echo "$nvcc"
    return
  done
}

# build_release TESTS TARGET...: configures build/cpu if need be and builds. TESTS: ON, with what is for GPUs where its compiler is, or
# empty to leave that as it is.
build_release() {
  local tests=$1 log=build/build.log devices=
  shift
  phase configure
  local arguments=(--preset cpu)
  if [ -n "$tests" ]; then
    arguments+=("-DFOURMI_TESTS=$tests")
    # In the same tree: the CPU's objects serve both, and its tests are the same.
    local nvcc
    nvcc=$(cuda_compiler)
    devices=", for GPUs too"
    if [ -n "$nvcc" ]; then
      arguments+=(-DFOURMI_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc" -DFOURMI_TOGETHER=OFF)  # nobody has tried both
      ! command -v ccache >/dev/null || arguments+=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
    else
      devices="; nothing for GPUs: no nvcc 13 or newer"
      arguments+=(-DFOURMI_CUDA=OFF)
      # What is compiled from nothing takes less time with several files as one. (Who edits them: cmake --preset cpu -DFOURMI_TOGETHER=OFF)
      [ -e build/cpu/build.ninja ] || arguments+=(-DFOURMI_TOGETHER=ON)
    fi
  elif [ ! -e build/cpu/build.ninja ]; then
    arguments+=(-DFOURMI_TESTS=OFF -DFOURMI_TOGETHER=ON)
  fi
  ! command -v ccache >/dev/null || arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  if [ -z "$tests" ] && [ -e build/cpu/build.ninja ]; then
    done_phase "build/cpu is configured"
  elif cmake "${arguments[@]}" >build/configure.log 2>&1; then
    done_phase "build/cpu$devices"
  else
    tail -n 20 build/configure.log >&2
    fail 3 build/configure.log "CMake failed, a configured build was expected."
  fi

  phase build
  if ! NINJA_STATUS='[%f/%t] ' ninja -C build/cpu -j "$(nproc)" "$@" 2>&1 | tee "$log" | show_build; then
    grep -v '^\[[0-9]*/[0-9]*\] [A-Z]' "$log" | tail -n 40 >&2
    fail 1 "$log" "the build failed, a program was expected."
  fi
  mkdir -p build/bin
  ln -sfn ../cpu/bin/fourmi build/bin/fourmi
  done_phase "$(built "$log")"
}

# build_fuzz: the fuzz targets in build/fuzz, by clang.
build_fuzz() {
  local log=build/fuzz.log
  phase "fuzz build"
  local arguments=(--preset fuzz)
  ! command -v ccache >/dev/null || arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  if [ ! -e build/fuzz/build.ninja ] && ! cmake "${arguments[@]}" >build/configure.log 2>&1; then
    tail -n 20 build/configure.log >&2
    fail 3 build/configure.log "CMake failed, a configured build was expected."
  fi
  if ! NINJA_STATUS='[%f/%t] ' ninja -C build/fuzz -j "$(nproc)" 2>&1 | tee "$log" | show_build; then
    grep -v '^\[[0-9]*/[0-9]*\] [A-Z]' "$log" | tail -n 40 >&2
    fail 1 "$log" "the build failed, fuzz targets were expected."
  fi
  done_phase "$(built "$log")"
}

# What a build did, from its log.
built() { awk -F'[][/]' '/^\[[0-9]+\/[0-9]+\] (Building|Linking)/ { n = $2; t = $3 } END { if (n) print n " of " t; else print "nothing to compile" }' "$1"; }

# n/total as it grows: on one line of a terminal, else a line every tenth of a build that is worth it.
show_build() {
  if [ -t 1 ]; then
    awk -F'[][/]' '/^\[[0-9]+\/[0-9]+\]/ { printf "\r%-10s %s/%s   ", "build", $2, $3; fflush() }'
  else
    awk -F'[][/]' '/^\[[0-9]+\/[0-9]+\]/ { tenth = int(10 * $2 / $3); if (tenth > last && $2 < $3 && $3 >= 10) { print "build      " $2 "/" $3; fflush() } last = tenth }'
  fi
}
