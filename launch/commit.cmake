# Writes commit.h with the commit of the source tree, "-dirty" if any file differs from it or is not in it. Runs at every build; the file
# changes only if its text does, so nothing is compiled again for nothing.
#   cmake -D SOURCE=<tree> -D OUTPUT=<commit.h> -P commit.cmake
cmake_policy(VERSION 3.25)
set(commit "unknown")
set(date "")
find_program(GIT git)
if(GIT)
  # The tree may belong to another user (a build as root): only questions are asked of it.
  set(ask ${GIT} -c safe.directory=* -C ${SOURCE})
  execute_process(COMMAND ${ask} rev-parse --show-toplevel OUTPUT_VARIABLE top ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  file(REAL_PATH "${SOURCE}" real_source)
  if(top)
    file(REAL_PATH "${top}" top)
  endif()
  if("${top}" STREQUAL "${real_source}")  # else this is a copy inside another repository
    execute_process(COMMAND ${ask} rev-parse --short=12 HEAD OUTPUT_VARIABLE head RESULT_VARIABLE failed ERROR_QUIET
                    OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT failed)
      set(commit ${head})
      execute_process(COMMAND ${ask} log -1 --format=%cs OUTPUT_VARIABLE date ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
      execute_process(COMMAND ${ask} status --porcelain OUTPUT_VARIABLE changes RESULT_VARIABLE failed ERROR_QUIET)
      if(failed OR NOT changes STREQUAL "")
        string(APPEND commit "-dirty")
      endif()
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define FOURMI_COMMIT \"@commit@\"\n#define FOURMI_COMMIT_DATE \"@date@\"\n" @ONLY)
