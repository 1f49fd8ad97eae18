//! The forever-frame iframe page: an HTML document that never ends, one script element an event.

/// To whom the page of a forever frame hands what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target<'a> {
    /// `parent.postMessage`, to the origin of the page itself.
    #[default]
    SameOrigin,
    /// `parent.postMessage`, to this origin; checked by [`is_origin`].
    Origin(&'a str),
    /// A function of the parent window; checked by [`is_callback`].
    Callback(&'a str),
}
