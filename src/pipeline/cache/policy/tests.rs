//! Rules that more than one file makes.
