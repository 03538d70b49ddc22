//! candle's BERT with masktile's kernels: how an engine takes them in as custom operations.
//!
//! | module | what |
//! | --- | --- |
//! | [`ops`] | masktile's operations on candle's tensors |
//! | [`bert`] | BERT made of them |
//! | [`embed`] | sentences to embeddings, by this BERT or by candle's own |

pub mod bert;
pub mod embed;
pub mod ops;
