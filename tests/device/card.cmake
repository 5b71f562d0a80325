# Tests on a card: bodies that the CPU runs too (bodies.cmake), and what a card alone has (device/*_test.cpp, hopper/). The card of
# test_card_emulated is emulated on the CPU (cuda_on_cpu/); that of test_card, where CUDA is, is this machine's: label gpu,
# skipped where there is none. Layouts are a program of their own: they take long.
file(GLOB of_cards CONFIGURE_DEPENDS device/*_test.cpp hopper/gemm_test.cpp hopper/wgrad_test.cpp hopper/bf16_test.cpp)
list(FILTER of_cards EXCLUDE REGEX "(program|layouts)_test.cpp$")
set(on_card device/main_card.cpp device/mirror.cpp device/stream_card.cpp)
list(APPEND of_cards ${on_card})

if(FOURMI_CARD_TESTS)
  add_subdirectory(cuda_on_cpu)
  # What the emulated card itself has to see is in hopper/protocol_test.cpp.
  add_executable(test_card_emulated ${of_cards} hopper/protocol_test.cpp device/emulated/together_test.cpp)
  set_source_files_properties(hopper/protocol_test.cpp PROPERTIES COMPILE_OPTIONS
    "-Wno-unknown-pragmas;-fsanitize=alignment;-fno-sanitize-recover=alignment")
  target_link_libraries(test_card_emulated PRIVATE GTest::gtest tests_of_any_device hopper_instructions_on_cpu framework_train
    cuda_on_cpu)
  target_include_directories(test_card_emulated BEFORE PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cuda_on_cpu)
  target_compile_definitions(test_card_emulated PRIVATE FOURMI_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  label_tests(test_card_emulated "cpu;card" TEST_PREFIX "card.")
  add_executable(test_card_layouts_emulated device/layouts_test.cpp ${on_card})
  target_link_libraries(test_card_layouts_emulated PRIVATE GTest::gtest framework_train cuda_on_cpu)
  label_tests(test_card_layouts_emulated "cpu;card" TEST_PREFIX "card.")

  # The program with the emulated card in place of GPUs.
  add_executable(fourmi_on_emulated_card ${CMAKE_SOURCE_DIR}/launch/main.cpp ${CMAKE_SOURCE_DIR}/launch/cpu_check.cpp)
  target_link_libraries(fourmi_on_emulated_card PRIVATE fourmi_program cuda_on_cpu)
  add_executable(test_card_program device/program_test.cpp)
  target_link_libraries(test_card_program PRIVATE end_to_end_harness)
  target_compile_definitions(test_card_program PRIVATE FOURMI_ON_EMULATED_CARD="$<TARGET_FILE:fourmi_on_emulated_card>")
  add_dependencies(test_card_program fourmi_on_emulated_card)
  label_tests(test_card_program "cpu;card" TEST_PREFIX "card.")
endif()

if(FOURMI_CUDA)
  add_subdirectory(hopper)
  add_executable(test_card ${of_cards})
  target_link_libraries(test_card PRIVATE GTest::gtest tests_of_any_device hopper_instructions framework_train fourmi_cuda)
  target_compile_definitions(test_card PRIVATE FOURMI_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  label_tests(test_card "gpu" TEST_PREFIX "gpu.")
  add_executable(test_card_layouts device/layouts_test.cpp ${on_card})
  target_link_libraries(test_card_layouts PRIVATE GTest::gtest framework_train fourmi_cuda)
  label_tests(test_card_layouts "gpu" TEST_PREFIX "gpu.")
endif()
