// Documents of which a part is in the loss, in windows of sequence_length. Such a document is never cut by a window's
// end: a window takes the next documents in a row as long as they fit, and the rest of it is padding. Without packing
// each document has a window of its own.
//
// A document of n tokens is n rows; row i's target is token i + 1 if that is in the loss, and that of multi-token
// prediction token i + 2. The last row has none: what the assistant writes last is the last that is learned.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/held_out.h"
#include "framework/data/token_store.h"
#include "framework/data/window_source.h"

namespace fourmi {

/// Documents as ids, and for each token of the store whether it is in the loss.
struct ChatDocuments {
  std::shared_ptr<const EncodedStore> store;
  std::vector<TextPiece> pieces;
  std::vector<bool> loss;
  std::int64_t num_loss_bytes = 0;  ///< of their text
  std::uint32_t checksum = 0;       ///< CRC-32 of ids and loss
  std::string note;                 ///< worth saying
};

/// What becomes of documents that are longer than a sequence, by data.overlong: error, drop, truncate (a document of
/// which no target is left is dropped too). Returns what is worth saying, if there was any. Throws Error(input) at
/// `place`.
std::string fit_conversations(const std::string& overlong, std::int64_t sequence_length, const std::string& place,
                              ChatDocuments& documents);

class ChatWindows final : public WindowSource {
 public:
  /// All documents fit into a sequence.
  ChatWindows(ChatDocuments documents, const WindowShape& shape);
  std::int64_t num_windows() const override { return static_cast<std::int64_t>(counts_.size()); }
  std::int64_t first_token(std::int64_t window) const override { return at(window).first_token; }
  std::int64_t num_inputs(std::int64_t window) const override { return at(window).inputs; }
  std::int64_t num_targets(std::int64_t window) const override { return at(window).targets; }
  std::int64_t num_mtp_targets(std::int64_t window) const override { return at(window).mtp_targets; }
  void write(std::int64_t window, std::int64_t sequence, Batch& batch) const override;

 private:
  struct Counts {
    std::int64_t first = 0;        ///< document
    std::int64_t first_token = 0;  ///< among the rows of all windows
    std::int32_t inputs = 0, targets = 0, mtp_targets = 0;
  };
  const Counts& at(std::int64_t window) const { return counts_.at(static_cast<std::size_t>(window)); }
  std::int64_t end_of(std::int64_t window) const;
  bool learned(std::int64_t token) const { return documents_.loss[static_cast<std::size_t>(token)]; }

  ChatDocuments documents_;
  WindowShape shape_;
  std::vector<Counts> counts_;  ///< of each window
};

}  // namespace fourmi
