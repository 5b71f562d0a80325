// HDF5 at the end of the process.
#pragma once

namespace fourmi {

/// HDF5 installs no exit handler of its own: files are closed by whoever opened them. Before any other use of the
/// library; it would touch what a use in the midst of exit() left half done.
void keep_hdf5_out_of_exit();

}  // namespace fourmi
