//! Decides for the broker, with the core that the plugin uses.
