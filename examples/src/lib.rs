//! Small programs, each one idea.
