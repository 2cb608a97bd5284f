//! Are two answers equal by value? Stands in for lm-eval's `is_equiv`, which asks sympy whether a difference
//! simplifies to 0.
//!
//! Numbers without variables, roots and functions are compared exactly. All others are evaluated at fixed complex
//! points: two expressions that differ agree there with a probability of practically 0, and where they agree they
//! are equal on an open set, which is what sympy tries to prove. Not covered: what `expression` does not read, and
//! numbers beyond double precision; such answers are equal only as text. (sympy, given five seconds, also fails on
//! some that are equal here.)

use std::collections::BTreeSet;

use super::{
    complex::Complex,
    expression::{self, Dialect, Expression, Operator},
    rational::Rational,
};

/// How many points expressions with variables are compared at.
const POINTS: u64 = 4;
/// Largest difference of equal values, relative to the greater and to 1.
const TOLERANCE: f64 = 1e-11;
/// Largest whole number whose factorial is computed.
const MAX_FACTORIAL: i32 = 170;

/// Are two normalised answers equal, as text or by value?
pub(super) fn is_equal(answer: &str, gold: &str) -> bool {
    if !answer.is_empty() && answer == gold {
        return true;
    }
    let read = |text| expression::parse(text, Dialect::Sympy);
    match (read(answer), read(gold)) {
        (Some(answer), Some(gold)) => same_value(&answer, &gold),
        _ => false,
    }
}

/// Do two expressions have the same value?
pub(super) fn same_value(left: &Expression, right: &Expression) -> bool {
    if let (Some(left), Some(right)) = (exact(left), exact(right)) {
        return left == right;
    }
    let mut symbols = BTreeSet::new();
    collect_symbols(left, &mut symbols);
    collect_symbols(right, &mut symbols);
    let points = if symbols.is_empty() { 1 } else { POINTS };
    (0..points).all(|point| {
        let values = (evaluate(left, point), evaluate(right, point));
        matches!(values, (Some(left), Some(right)) if is_near(left, right))
    })
}

fn is_near(left: Complex, right: Complex) -> bool {
    left.minus(right).size() <= TOLERANCE * left.size().max(right.size()).max(1.0)
}

fn collect_symbols<'a>(expression: &'a Expression, symbols: &mut BTreeSet<&'a str>) {
    match expression {
        Expression::Symbol(name) => {
            symbols.insert(name);
        }
        Expression::Negative(inner) => collect_symbols(inner, symbols),
        Expression::Binary(_, left, right) => {
            collect_symbols(left, symbols);
            collect_symbols(right, symbols);
        }
        Expression::Known(_, arguments) | Expression::Unknown(_, arguments) => {
            for argument in arguments {
                collect_symbols(argument, symbols);
            }
        }
        _ => {}
    }
}

/// The exact value, where there is one.
pub(super) fn exact(expression: &Expression) -> Option<Rational> {
    match expression {
        Expression::Number { value, .. } => Some(*value),
        Expression::Negative(inner) => exact(inner)?.negative(),
        Expression::Binary(operator, left, right) => {
            let (left, right) = (exact(left)?, exact(right)?);
            match operator {
                Operator::Add => left.plus(right),
                Operator::Subtract => left.plus(right.negative()?),
                Operator::Multiply => left.times(right),
                Operator::Divide => left.divided_by(right),
                Operator::Power => left.power(right.integer()?),
            }
        }
        _ => None,
    }
}

/// The value at one of the points; `None` where it is not defined or too large.
pub(super) fn evaluate(expression: &Expression, point: u64) -> Option<Complex> {
    let value = match expression {
        Expression::Number { value, .. } => Complex::real(value.value()),
        Expression::Symbol(name) => coordinate(name, point),
        Expression::Pi => Complex::real(std::f64::consts::PI),
        Expression::Euler => Complex::real(std::f64::consts::E),
        Expression::Imaginary => Complex::I,
        Expression::Infinity | Expression::Relation => return None,
        Expression::Negative(inner) => evaluate(inner, point)?.scaled(-1.0),
        Expression::Binary(operator, left, right) => {
            let (left, right) = (evaluate(left, point)?, evaluate(right, point)?);
            match operator {
                Operator::Add => left.plus(right),
                Operator::Subtract => left.minus(right),
                Operator::Multiply => left.times(right),
                Operator::Divide => left.over(right),
                Operator::Power => left.power(right),
            }
        }
        Expression::Known(name, arguments) => {
            let values: Option<Vec<_>> = arguments.iter().map(|it| evaluate(it, point)).collect();
            known(name, &values?)?
        }
        Expression::Unknown(name, arguments) => {
            let values: Option<Vec<_>> = arguments.iter().map(|it| evaluate(it, point)).collect();
            unknown(name, &values?)
        }
    };
    value.is_finite().then_some(value)
}

/// A function nothing is known of: equal where its arguments are.
fn unknown(name: &str, arguments: &[Complex]) -> Complex {
    let arguments = arguments
        .iter()
        .map(|value| format!("{:.6e},{:.6e}", value.re, value.im));
    let place = format!("{name}({})", arguments.collect::<Vec<_>>().join(";"));
    coordinate(&place, 0)
}

/// Where a variable lies at one of the points: off the axes, at some distance from 0, in any quadrant.
fn coordinate(name: &str, point: u64) -> Complex {
    // FNV-1a, and the last steps of splitmix64 to spread it.
    let seed = name.bytes().fold(
        0xcbf2_9ce4_8422_2325_u64 ^ point.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
    );
    let part = |round: u64| {
        let mut bits = seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let size = 0.3 + f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / 4e9;
        if bits & 1 == 0 { size } else { -size }
    };
    Complex::new(part(1), part(2))
}

fn known(name: &str, arguments: &[Complex]) -> Option<Complex> {
    let &first = arguments.first()?;
    let second = arguments.get(1).copied();
    let reciprocal = || Complex::ONE.over(first);
    Some(match name {
        "root" => match second {
            Some(root) => first.power(Complex::ONE.over(root)),
            None => first.sqrt(),
        },
        "log" => first.ln().over(second?.ln()),
        "exp" => first.exp(),
        "abs" => Complex::real(first.size()),
        "conjugate" => first.conjugate(),
        "sin" => first.sin(),
        "cos" => first.cos(),
        "tan" => first.sin().over(first.cos()),
        "csc" => Complex::ONE.over(first.sin()),
        "sec" => Complex::ONE.over(first.cos()),
        "cot" => first.cos().over(first.sin()),
        "sinh" => first.sinh(),
        "cosh" => first.cosh(),
        "tanh" => first.sinh().over(first.cosh()),
        "arcsin" => first.asin(),
        "arccos" => first.acos(),
        "arctan" => first.atan(),
        "arccsc" => reciprocal().asin(),
        "arcsec" => reciprocal().acos(),
        "arccot" => reciprocal().atan(),
        "arsinh" => first.asinh(),
        "arcosh" => first.acosh(),
        "artanh" => first.atanh(),
        "floor" => Complex::new(first.re.floor(), first.im.floor()),
        "ceil" => Complex::new(first.re.ceil(), first.im.ceil()),
        "factorial" => match whole(first) {
            Some(number @ 0..=MAX_FACTORIAL) => Complex::real(product(1, number)),
            Some(_) => return None,
            None => unknown(name, arguments),
        },
        "binomial" => match (whole(first), whole(second?)) {
            (Some(of @ 0..=MAX_FACTORIAL), Some(chosen @ 0..)) if chosen <= of => {
                let chosen = chosen.min(of - chosen);
                Complex::real((product(of - chosen + 1, of) / product(1, chosen)).round())
            }
            (Some(0..=MAX_FACTORIAL), Some(_)) => Complex::real(0.0),
            _ => unknown(name, arguments),
        },
        _ => return None,
    })
}

fn whole(value: Complex) -> Option<i32> {
    let is_small = value.im == 0.0 && value.re.fract() == 0.0 && value.re.abs() < 1e9;
    #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
    is_small.then_some(value.re as i32)
}

fn product(from: i32, to: i32) -> f64 {
    (from..=to).map(f64::from).product()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// What sympy 1.14 says of the same pairs through lm-eval's `is_equiv`.
    #[test]
    fn values_not_spelling() {
        for (left, right) in [
            (r"\frac{1}{2}", "0.5"),
            (r"\frac{2}{4}", r"\frac{1}{2}"),
            ("1/2", r"\dfrac{1}{2}"),
            (r"\sqrt{8}", r"2\sqrt{2}"),
            (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
            (r"\sqrt[3]{8}", "2"),
            ("(x+1)(x-1)", "x^2-1"),
            ("2x+y", "y+2x"),
            (r"2\pi", r"\pi2"),
            ("2^{10}", "1024"),
            ("5!", "120"),
            (r"\binom{5}{2}", "10"),
            (r"\log_{2}8", "3"),
            (r"\sin^{2}x+\cos^{2}x", "1"),
            ("3:4", r"\frac{3}{4}"),
            ("5x7", "35"),
            ("1,234", "1234"),
            ("7,9", "7"),
            (r"5\cdot", "5"),
            ("(1,4)", "(1,4)"),
            (r"\text{no}", r"\text{no}"),
            ("9999999999999999999", "10^{19}-1"),
        ] {
            assert!(is_equal(left, right), "{left} = {right}");
        }
        for (left, right) in [
            (r"\frac{1}{3}", "0.3333"),
            (r"\frac{1}{3}", "0.333333333"),
            ("(1,4)", "(1,5)"),
            ("(1,4)", "(1, 4)"),
            ("[2,5)", "[2,5]"),
            (r"\sqrt{x^2}", "x"),
            ("x(x+1)", "x^2+x"),
            (r"2\pi", "6.283185307"),
            ("i^2", "-1"),
            ("x>3", "3<x"),
            (r"\infty", r"\infty+1"),
            (r"\frac{1}{0}", r"\frac{2}{0}"),
            ("", ""),
            ("3.", "3"),
            ("5;", "5"),
            (r"1\frac{1}{2}", "1.5"),
        ] {
            assert!(!is_equal(left, right), "{left} != {right}");
        }
    }

    #[test]
    fn long_and_deep_answers_end() {
        let start = Instant::now();
        for text in [
            "(",
            "{",
            "-",
            "1+",
            r"\frac{1}{",
            "x^{",
            r"\sin ",
            r"\sqrt{",
            "|",
            "x(",
            "f(1,",
            "9",
        ] {
            for times in [30, 1_000, 100_000] {
                let long = text.repeat(times);
                assert!(!is_equal(&long, "1"), "{text}");
                assert!(!is_equal(&format!("{long}1"), "0"), "{text}");
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(left in r"([a-dx0-9(){}\[\]|+*/^_!,.=:-]|\\frac|\\sqrt|\\sin|\\pi|\\log_|\\binom){0,24}") {
            let _ = is_equal(&left, "1");
            let _ = is_equal(&left, &format!("{left}+0"));
        }

        /// A number equals itself in other spellings, and no other number.
        #[test]
        fn fractions_have_values(top in -999_i32..999, bottom in 1_i32..99, factor in 1_i32..9) {
            let text = format!("{top}/{bottom}");
            let multiple = format!("\\frac{{{}}}{{{}}}", top * factor, bottom * factor);
            let other = format!("\\frac{{{}}}{{{}}}", top * factor + 1, bottom * factor);
            prop_assert!(is_equal(&text, &multiple));
            prop_assert!(!is_equal(&text, &other));
        }
    }
}
