use super::*;

/// A shell in place of the process, which does as told.
fn shell(script: &str, input: &[&[u8]], time: Duration) -> Remains {
    run(Command::new("/bin/sh").args(["-c", script]), input, Patience { time, longest: 4 << 20, is_wanted: &|| true })
        .unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_goes_in_comes_out() {
    let part = vec![7; 1 << 20];
    let remains = shell("cat", &[b"a", b"", &part, b"z"], LONG);
    assert_eq!(remains.end, End::Exit(0));
    assert_eq!(remains.answer.len(), part.len() + 2);
    assert_eq!((remains.answer[0], remains.answer[1], remains.answer[part.len() + 1]), (b'a', 7, b'z'));
}

#[test]
fn the_end_is_told_as_it_was() {
    assert_eq!(shell("exit 7", &[b"unread"], LONG).end, End::Exit(7));
    assert_eq!(shell("kill -SEGV $$", &[], LONG).end, End::Signal(libc::SIGSEGV));
    assert_eq!(shell("kill -KILL $$", &[], LONG).end, End::Signal(libc::SIGKILL));
}

#[test]
fn who_takes_too_long_is_ended() {
    let short = Duration::from_millis(50);
    let unread = vec![0; 1 << 20];
    for script in ["sleep 1000", "while :; do :; done", "yes >&2", "exec 0<&-; sleep 1000"] {
        let remains = shell(script, &[&unread], short);
        assert_eq!(remains.end, End::TimedOut, "{script}");
    }
    // It has nothing more to say, but does not go.
    assert_eq!(shell("exec 1>&-; sleep 1000", &[], LONG).end, End::Signal(libc::SIGKILL));
}

#[test]
fn who_is_not_wanted_any_more_is_ended() {
    let asked = std::cell::Cell::new(0);
    let is_wanted = || asked.replace(asked.get() + 1) < 2;
    let patience = Patience { time: LONG, longest: 1, is_wanted: &is_wanted };
    let remains = run(Command::new("/bin/sh").args(["-c", "sleep 1000"]), &[], patience).unwrap();
    assert_eq!(remains.end, End::Unwanted);
}

#[test]
fn who_answers_without_end_is_ended() {
    let remains = shell("yes", &[], LONG);
    assert_eq!(remains.end, End::Endless);
    assert!(remains.answer.len() < 5 << 20);
}

#[test]
fn complaints_are_kept_and_bounded() {
    let remains = shell("echo first >&2; head -c 1000000 /dev/zero >&2; echo answer", &[], LONG);
    assert_eq!((&*remains.answer, remains.end), (&b"answer\n"[..], End::Exit(0)));
    assert!(remains.complaint.starts_with("first\n"));
    assert!(remains.complaint.len() <= LONGEST_COMPLAINT);
}

#[test]
fn nothing_of_ours_is_inherited() {
    let text = String::from_utf8(shell("/usr/bin/env; pwd", &[], LONG).answer).unwrap();
    // The shell sets PWD and such itself.
    assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
    assert!(text.ends_with("\n/\n"), "{text}");
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let error =
        run(&mut Command::new("/does/not/exist"), &[], Patience { time: LONG, longest: 1, is_wanted: &|| true })
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
