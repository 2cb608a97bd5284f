//! On a card, real or software; its misbehaviour is set by the environment, so each case is a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::process::{Command, Output};

use candle_core::{DType, Tensor};
use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::*;

/// What the child process is told to do.
const STEP: &str = "LLAMA_EVAL_CARD_TEST";
/// Before the child's result, on a line of its own.
const MARK: &str = "result: ";

/// Runs [`step`] in another process with these environment variables.
fn process(step: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "device::card::tests::child_process",
            "--ignored",
            "--nocapture",
        ])
        .env(STEP, step)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// What [`step`] gives in another process.
fn child(step: &str, environment: &[(&str, &str)]) -> String {
    let output = process(step, environment);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{step} {environment:?}: {text}{errors}"
    );
    let (_, result) = text
        .split_once(MARK)
        .unwrap_or_else(|| panic!("{text}{errors}"));
    result.split_once(" :end").unwrap().0.to_owned()
}

/// Whether there is a card, and whether it is the software card. Prints why a test is skipped.
fn available() -> Option<bool> {
    let opened = child("open", &[]);
    if opened.starts_with("opened") {
        return Some(opened.contains("Software card"));
    }
    assert!(
        env::var("LLAMA_EVAL_REQUIRE_CARD").as_deref() != Ok("1"),
        "{opened}"
    );
    println!("skipped: {opened}");
    None
}

/// As [`available`], where only the software card will do.
fn software_card() -> bool {
    let software = available();
    if software == Some(false) {
        println!("skipped: this card does not misbehave when asked");
    }
    software == Some(true)
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn child_process() {
    println!("{MARK}{} :end", step(&env::var(STEP).unwrap()));
}

fn step(step: &str) -> String {
    let card = match open(0) {
        Ok(card) => card,
        Err(error) => return error.to_string(),
    };
    match step {
        "open" => format!("opened {}", card.name),
        "second" => open(1).err().unwrap().to_string(),
        "memory" => {
            let before = card.memory().unwrap();
            let held = Tensor::zeros(16 << 20, DType::F32, &card.device()).unwrap();
            let during = card.memory().unwrap();
            drop(held);
            format!("{before:?} {during:?} {:?}", card.memory().unwrap())
        }
        "product" => product(&card).unwrap(),
        "products" => {
            let error = (0..9).find_map(|_| product(&card).err()).unwrap();
            format!("{:?} {}", classify(&error), explain(&error))
        }
        "full" => {
            let mut held = Vec::new();
            let error = loop {
                match Tensor::zeros(16 << 20, DType::F32, &card.device()) {
                    Ok(tensor) => held.push(tensor),
                    Err(error) => break error.context("the cache"),
                }
            };
            format!("{:?} {}", classify(&error), explain(&error))
        }
        "outside" => outside(&card).join(" "),
        "kernel" => format!("{:?}", kernel(&card, 0)),
        "overrun" => format!("{:?}", kernel(&card, 1 << 12)),
        other => panic!("{other}"),
    }
}

/// A product on the card, checked against the same on the CPU.
fn product(card: &Card) -> candle_core::Result<String> {
    let numbers = |rows: usize, columns: usize| {
        let values = (0..rows * columns).map(|i| (i * 7919 % 101) as f32 / 50.0 - 1.0);
        Tensor::from_iter(values, &Device::Cpu)?.reshape((rows, columns))
    };
    // Sides that no block divides, and more terms than one block sums.
    let (a, b) = (numbers(211, 613)?, numbers(613, 197)?);
    let expected = a.matmul(&b)?;
    let mut report = Vec::new();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let on_card = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_device(&card.device());
        for transposed in [false, true] {
            let b = on_card(&b)?;
            let b = if transposed {
                on_card(&b.to_device(&Device::Cpu)?.t()?.contiguous()?)?.t()?
            } else {
                b
            };
            let product = on_card(&a)?
                .matmul(&b)?
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?;
            let error = (product - &expected)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            let greatest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
            // Rounding of the inputs, the sum and the output.
            let allowed = match dtype {
                DType::F32 => 1e-5,
                DType::BF16 => 2e-2,
                _ => 2e-3,
            };
            assert!(
                error <= allowed * greatest,
                "{dtype:?} {transposed}: {error} of {greatest}"
            );
            report.push(dtype.as_str());
        }
    }
    Ok(report.join(" "))
}

/// Draws numbers with a kernel: so many more than there is memory for.
fn kernel(card: &Card, more: u64) -> Vec<f32> {
    let ptx = include_str!(concat!(env!("OUT_DIR"), "/rows.ptx"));
    let draw = card
        .device
        .get_or_load_custom_func("random_f32", "rows", ptx)
        .unwrap();
    // SAFETY: the kernel writes all of it.
    let out = unsafe { card.device.alloc::<f32>(8) }.unwrap();
    let mut arguments = draw.builder();
    let count = 8 + more;
    arguments.arg(&out).arg(&count).arg(&1u64).arg(&1f32);
    let one_block = LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (256, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the arguments are the kernel's; only the software card is asked for more.
    unsafe { arguments.launch(one_block) }.unwrap();
    card.device.clone_dtoh(&out).unwrap()
}

/// What a program must not do with memory: the driver's answers, in order.
fn outside(card: &Card) -> Vec<String> {
    let stream = card.device.cuda_stream();
    let queue = stream.cu_stream();
    let bytes = [0u8; 65];
    let mut read = [0u8; 64];
    // SAFETY: the software card refuses what is wrong here, and only that card is asked.
    let answers = unsafe {
        let held = result::malloc_async(queue, 64).unwrap();
        let freed = result::malloc_async(queue, 64).unwrap();
        vec![
            result::memcpy_htod_async(held, &bytes[..64], queue),
            result::memcpy_htod_async(held, &bytes, queue),
            result::memcpy_htod_async(held + 1, &bytes[..64], queue),
            result::memcpy_dtoh_async(&mut read, held + 64, queue),
            result::memset_d8_async(held, 0, 65, queue),
            result::free_async(freed, queue),
            result::free_async(freed, queue),
            result::memcpy_dtod_async(held, freed, 64, queue),
            result::free_async(held + 8, queue),
            result::free_async(held, queue),
        ]
    };
    let told = |answer: Result<(), DriverError>| match answer {
        Ok(()) => "done".to_owned(),
        Err(DriverError(code)) => format!("{code:?}"),
    };
    answers.into_iter().map(told).collect()
}

#[test]
fn opens_and_computes() {
    if available().is_some() {
        assert_eq!(child("product", &[]), "f32 f32 bf16 bf16 f16 f16");
    }
}

#[test]
fn memory_is_counted() {
    if software_card() {
        let total = 1u64 << 30;
        let all = (total, total);
        let expected = format!("{all:?} {:?} {all:?}", (total - (64 << 20), total));
        assert_eq!(
            child("memory", &[("SOFTWARE_CARD_MEMORY", "1073741824")]),
            expected
        );
    }
}

/// SplitMix64's finaliser over a counter, the upper bits as a number in -1..1.
#[test]
fn runs_a_kernel() {
    if available().is_none() {
        return;
    }
    let number = |i: u64| {
        let x = 1u64.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let expected: Vec<f32> = (0..8).map(number).collect();
    assert_eq!(child("kernel", &[]), format!("{expected:?}"));
}

/// A kernel that writes behind its memory ends the program, with a word on which kernel it was.
#[test]
fn the_software_card_stops_a_kernel_that_overruns() {
    if software_card() {
        let output = process("overrun", &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success()
                && errors.contains("outside of every allocation; last kernel: random_f32"),
            "{errors}"
        );
    }
}

/// The software card refuses copies outside of an allocation, use after free and double frees.
#[test]
fn the_software_card_watches_its_memory() {
    if software_card() {
        let (done, refused) = ("done", "CUDA_ERROR_INVALID_VALUE");
        let expected = [
            done, refused, refused, refused, refused, done, refused, refused, refused, done,
        ];
        assert_eq!(child("outside", &[]), expected.join(" "));
    }
}

/// A machine with a part of what is needed.
#[test]
fn tells_which_library_is_missing() {
    if !software_card() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let only_here = [
        ("LD_LIBRARY_PATH", path),
        ("CUDA_HOME", path),
        ("CUDA_PATH", path),
    ];
    let cases = [
        ("", "no NVIDIA driver on this machine (libcuda.so.1: "),
        (
            "libcuda.so.1",
            "libcublas.so.13 of CUDA does not load (libcublas.so.13: ",
        ),
        (
            "libcublas.so.13",
            "libcurand.so.10 of CUDA does not load (libcurand.so.10: ",
        ),
        ("libcurand.so.10", "opened Software card"),
    ];
    let card = env::split_paths(&env::var_os("LD_LIBRARY_PATH").unwrap())
        .find(|folder| folder.join("libcuda.so.1").exists())
        .unwrap();
    for (more, expected) in cases {
        if !more.is_empty() {
            std::os::unix::fs::symlink(card.join(more), folder.path().join(more)).unwrap();
        }
        let told = child("open", &only_here);
        assert!(told.starts_with(expected), "with {more}: {told}");
    }
}

/// The driver's own faults, and the beginning of what the user is told.
#[test]
fn tells_what_is_wrong_with_the_card() {
    if !software_card() {
        return;
    }
    let cases = [
        (
            "open",
            &[("SOFTWARE_CARD_DRIVER", "12020")][..],
            "the NVIDIA driver is too old: it supports CUDA 12.2, this program needs 13.0",
        ),
        (
            "open",
            &[("SOFTWARE_CARD_COUNT", "0")],
            "no card cuda:0: the driver shows 0 card(s)",
        ),
        ("second", &[], "no card cuda:1: the driver shows 1 card(s)"),
        (
            "open",
            &[("SOFTWARE_CARD_CAPABILITY", "7.5")],
            "Software card has compute capability 7.5, and 8.0 is the oldest supported",
        ),
        (
            "open",
            &[("SOFTWARE_CARD_CAPABILITY", "8.0")],
            "opened Software card",
        ),
        (
            "open",
            &[("SOFTWARE_CARD_LOST_AFTER", "0")],
            "the card is lost (DriverError(CUDA_ERROR_DEVICE_UNAVAILABLE,",
        ),
        (
            "full",
            &[("SOFTWARE_CARD_MEMORY", "268435456")],
            "OutOfMemory the card is out of memory: 0 of 256 MiB are free",
        ),
        (
            "products",
            &[("SOFTWARE_CARD_TAKEN_AFTER", "3:3000000000")],
            "OutOfMemory the card is out of memory: 0 of 2048 MiB are free",
        ),
        (
            "products",
            &[("SOFTWARE_CARD_LOST_AFTER", "5")],
            "Lost the card is lost (",
        ),
    ];
    for (step, environment, expected) in cases {
        let told = child(step, environment);
        assert!(told.starts_with(expected), "{step} {environment:?}: {told}");
        assert!(
            told.starts_with("opened")
                || told.contains("\nhint: ") && told.contains("--device cpu"),
            "{told}"
        );
    }
}

/// However candle has wrapped the driver's error.
#[test]
fn errors_are_classified() {
    let wrapped = |code| Error::Cuda(Box::new(CudaError::Cuda(DriverError(code))));
    let full = CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    let lost = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    let blas = |code| {
        Error::Cuda(Box::new(CudaError::Cublas(
            cudarc::cublas::result::CublasError(code),
        )))
    };
    let cases = [
        (wrapped(full), Trouble::OutOfMemory),
        (wrapped(lost), Trouble::Lost),
        (wrapped(CUresult::CUDA_ERROR_INVALID_VALUE), Trouble::Other),
        (
            wrapped(lost).context("layer 3").with_path("model"),
            Trouble::Lost,
        ),
        (
            Error::Cuda(Box::new(DriverError(full))),
            Trouble::OutOfMemory,
        ),
        (Error::Cuda(Box::new(wrapped(full))), Trouble::OutOfMemory),
        (
            Error::Msg(format!("while loading: {:?}", full)),
            Trouble::OutOfMemory,
        ),
        (
            Error::wrap("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"unspecified launch failure\")"),
            Trouble::Lost,
        ),
        (
            blas(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED),
            Trouble::OutOfMemory,
        ),
        (
            blas(cublasStatus_t::CUBLAS_STATUS_EXECUTION_FAILED),
            Trouble::Lost,
        ),
        (
            blas(cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE),
            Trouble::Other,
        ),
        (Error::Msg("shape mismatch".to_owned()), Trouble::Other),
    ];
    for (error, expected) in cases {
        assert_eq!(classify(&error), expected, "{error}");
    }
}
