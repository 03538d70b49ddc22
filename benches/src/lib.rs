//! Benchmarks of masktile by instruction set. The program `masktile-bench` is [`cli`]; the criterion
//! benches and the peers share the rest.
//!
//! | to | see |
//! | --- | --- |
//! | add an operation, or a shape of one | [`ops`] |
//! | add a mask | [`masks`] |
//! | change how time is taken | [`measure`] |
//! | read or write records | [`record`] |

pub mod buffer;
pub mod callgrind;
pub mod cli;
pub mod compare;
pub mod info;
pub mod interrupt;
pub mod limits;
pub mod machine;
pub mod masks;
pub mod measure;
pub mod ops;
pub mod order;
pub mod record;
pub mod report;
pub mod run;
pub mod table;
pub mod verify;
