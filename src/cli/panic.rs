//! How a panic looks in the log.

use std::panic::PanicHookInfo;

use crate::report::Escaped;

/// Longest message that is shown, in characters.
const MESSAGE_MAX: usize = 200;

/// A panic is one line with its place. Its message is shown only where it is text of the program: one that was put together at
/// run time may hold what a key file or a peer contained.
pub(super) fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("panic in thread '{}' {}", thread.name().unwrap_or("unnamed"), describe(panic));
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    match panic.payload().downcast_ref::<&'static str>() {
        Some(text) => {
            let text: String = text.chars().take(MESSAGE_MAX).collect();
            format!("at {place}: {}", Escaped(&text))
        }
        None => format!("at {place}"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::catch_unwind;

    use super::*;

    thread_local! {
        static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    fn said(body: impl FnOnce() + std::panic::UnwindSafe) -> String {
        catch_unwind(body).unwrap_err();
        SAID.take().unwrap()
    }

    #[test]
    fn text_of_the_program_is_shown_and_data_is_not() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SAID.set(Some(describe(panic)));
            before(panic);
        }));
        assert!(said(|| panic!("a constant\nof two lines")).ends_with(": a constant\\u{a}of two lines"));
        let secret = std::hint::black_box("hunter2");
        let line = said(|| panic!("the key is {secret}"));
        assert!(line.starts_with("at src/cli/panic.rs:") && !line.contains("hunter2"), "{line}");
    }
}
