//! A stream's life: whatever is asked of it in whatever order, it is lost once and never comes back.
//!
//! The queue of the stream is played by a number; the target owns both. No I/O.
#![no_main]

use ironloop::engine::stream::{CloseAction, DrainedAction, EofAction, StreamCore};
use ironloop_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (mut stream, mut queued) = (StreamCore::new(), 0_u32);
    let (mut losses, mut shutdowns, mut warned) = (0, 0, false);
    while !choices.is_empty() {
        let (was_closing, was_lost, was_eof) = (stream.is_closing(), stream.is_lost(), stream.is_eof());
        match choices.byte() % 8 {
            0 if !was_lost && !was_eof => queued += 1,
            1 if queued > 0 => {
                queued -= 1;
                if queued == 0 {
                    match stream.drained() {
                        DrainedAction::Lose => losses += 1,
                        DrainedAction::ShutdownWrite => shutdowns += 1,
                        DrainedAction::Nothing => {}
                    }
                }
            }
            2 => match stream.close(queued == 0) {
                CloseAction::LoseNow => losses += 1,
                CloseAction::DrainThenLose => assert!(queued > 0 && !was_closing),
                CloseAction::Nothing => assert!(was_closing),
            },
            3 => {
                losses += u32::from(stream.abort());
                queued = 0;
                assert!(stream.is_lost());
            }
            4 => match stream.write_eof(queued == 0) {
                EofAction::ShutdownNow => shutdowns += 1,
                EofAction::ShutdownAfterDrain => assert!(queued > 0),
                EofAction::Nothing => assert!(was_closing || was_eof),
            },
            5 => assert!(!stream.pause_reading() || stream.is_paused()),
            6 => assert!(!stream.resume_reading() || stream.is_reading()),
            7 if was_lost => {
                let warns = stream.write_after_lost();
                assert!(warns || !warned, "once it warns it goes on to");
                warned |= warns;
            }
            _ => stream.read_eof(),
        }
        assert!(losses <= 1 && shutdowns <= 1);
        assert_eq!(stream.is_lost(), losses == 1);
        assert!(stream.is_closing() || !stream.is_lost());
        assert!(stream.is_closing() || !was_closing, "a stream never opens again");
        assert!(!stream.is_reading() || !(stream.is_closing() || stream.is_paused()));
    }
});
