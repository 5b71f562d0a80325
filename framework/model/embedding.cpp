#include "framework/model/embedding.h"

#include "framework/model/cut_linear.h"

namespace fourmi {

Embedding::Embedding(const ModelSection& m, const ParameterStore& store)
    : table_(store.slot("model.embed_tokens.weight")),
      range_{store.table().find("model.embed_tokens.weight").first_row, m.vocab_size} {}

void Embedding::forward(const Context& c, const Tensor& tokens_M, const Tensor& x_mD) const {
  RowExchange::Moves moves = c.moves();
  const Tensor partial = moves.partial(x_mD);
  embedding_forward(*c.stream, tokens_M, c.weight(table_), partial, range_);
  moves.sum(partial, x_mD);
  moves.finish();
}

void Embedding::backward(const Context& c, const Tensor& tokens_M, const Tensor& dx_mD, const Tensor& all_dx_MD,
                         const Meanwhile& gathering) const {
  embedding_backward(*c.stream, tokens_M, gathered(c, dx_mD, all_dx_MD, gathering), c.gradient(table_), c.token_cuts,
                     range_);
}

}  // namespace fourmi
