#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = liveupdate_host::linux::machine::fuzz_record(bytes);
});
