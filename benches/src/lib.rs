//! Measuring the limits.
