//! What happens to a score before the softmax, in [`crate::Softmax`] and [`crate::Attention`] alike:
//!
//! 1. `scale * raw` (raw scores of an attention are the products of queries and keys);
//! 2. with a soft cap, `cap * tanh(s / cap)` (Gemma 2, Grok);
//! 3. plus each bias of the mask, in order;
//! 4. masked positions are left out;
//! 5. times `1 / temperature`;
//! 6. the softmax, to whose sum a sink adds `exp(sink)` (GPT-OSS; Y. Xiao et al., *Efficient
//!    Streaming Language Models with Attention Sinks*, 2024).
//!
//! A step that was not asked for changes no bit.

use masktile_kernels::mask::Plan;
use masktile_kernels::score::{ALL, Rule};

use crate::Result;
use crate::error::{Error, ErrorKind, same};
use crate::mask::Mask;

/// The options that softmax and attention share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoring<'a> {
    pub mask: Mask<'a>,
    pub scale: Option<f32>,
    pub softcap: Option<f32>,
    pub temperature: f32,
    pub sinks: Option<&'a [f32]>,
}

impl Scoring<'_> {
    pub(crate) const NEW: Self =
        Scoring { mask: Mask::None, scale: None, softcap: None, temperature: 1.0, sinks: None };

    /// The options as kernels take them, checked against the scores' shape.
    pub(crate) fn rule<'p>(
        &self,
        [_, heads, _, _]: [usize; 4],
        usual_scale: f32,
        plan: &'p Plan<'p>,
    ) -> Result<Rule<'p>> {
        compiled("softcap", self.softcap.is_some())?;
        compiled("temperature", self.temperature != 1.0)?;
        compiled("sinks", self.sinks.is_some())?;
        if let Some(cap) = self.softcap {
            positive("softcap", cap)?;
        }
        positive("temperature", self.temperature)?;
        if let Some(sinks) = self.sinks {
            same("sinks", "heads", sinks.len(), heads)?;
        }
        Ok(Rule {
            scale: self.scale.unwrap_or(usual_scale),
            softcap: self.softcap.unwrap_or(0.0),
            sharpness: 1.0 / self.temperature,
            plan,
        })
    }
}

/// An error if what the feature `scores` has is asked for and was left out.
pub(crate) fn compiled(argument: &'static str, is_asked: bool) -> Result<()> {
    if ALL || !is_asked {
        return Ok(());
    }
    Err(Error::new(argument, ErrorKind::Feature { wanted: "scores" }))
}

fn positive(argument: &'static str, given: f32) -> Result<()> {
    if given.is_finite() && given > 0.0 && (1.0 / given).is_finite() {
        return Ok(());
    }
    let wanted = "a finite number above 0 with a finite inverse";
    Err(Error::new(argument, ErrorKind::Number { what: "value", given, wanted }))
}
