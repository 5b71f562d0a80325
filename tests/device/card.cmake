# Tests on a card: bodies that the CPU runs too, through tests/device/stream.h, and what a card alone has (device/*_test.cpp).
# Without CUDA, and with it as well, the card is one that is emulated on the CPU (cuda_on_cpu/): test_card_emulated. With
# CUDA test_card runs them on this machine's card: label gpu; skipped where there is none.
add_subdirectory(cuda_on_cpu)
file(GLOB kernel_tests CONFIGURE_DEPENDS kernels/*_test.cpp)
set(card_tests)
foreach(test IN LISTS kernel_tests)
  file(STRINGS ${test} shared REGEX "tests/device/stream.h")
  if(shared)
    list(APPEND card_tests ${test})
  endif()
endforeach()
file(GLOB of_cards CONFIGURE_DEPENDS device/*_test.cpp hopper/gemm_test.cpp hopper/wgrad_test.cpp)
list(APPEND card_tests ${of_cards} device/main_card.cpp device/mirror.cpp device/stream_card.cpp)

# What the emulated card itself has to see is in hopper/protocol_test.cpp.
add_executable(test_card_emulated ${card_tests} hopper/protocol_test.cpp hopper/ptx_test.cu)
set_source_files_properties(hopper/ptx_test.cu PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
  "-include;${CMAKE_CURRENT_SOURCE_DIR}/cuda_on_cpu/language.h;-Wno-unknown-pragmas")
target_link_libraries(test_card_emulated PRIVATE GTest::gtest framework_train cuda_on_cpu)
target_include_directories(test_card_emulated BEFORE PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cuda_on_cpu)
target_compile_definitions(test_card_emulated PRIVATE FOURMI_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
label_tests(test_card_emulated "cpu;card" TEST_PREFIX "card.")

if(FOURMI_CUDA)
  add_executable(test_card ${card_tests})
  target_link_libraries(test_card PRIVATE GTest::gtest framework_train fourmi_cuda)
  target_compile_definitions(test_card PRIVATE FOURMI_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  label_tests(test_card "gpu" TEST_PREFIX "gpu.")
endif()
