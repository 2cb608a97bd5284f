//! Fractions of whole numbers, exact as long as they fit.

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rational {
    numerator: i128,
    denominator: i128,
}

/// Largest exponent of an exact power.
const MAX_EXPONENT: u32 = 512;

impl Rational {
    /// Any fraction but those with denominator 0.
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = greatest_common_divisor(
            numerator.checked_abs()?.unsigned_abs(),
            denominator.checked_abs()?.unsigned_abs(),
        );
        let divisor = i128::try_from(divisor).ok().filter(|_| denominator != 0)?;
        let sign = denominator.signum();
        Some(Self {
            numerator: numerator / divisor * sign,
            denominator: denominator / divisor * sign,
        })
    }

    /// The number `12.50`, given as its digits before and after the point.
    pub(super) fn decimal(whole: &str, fraction: &str) -> Option<Self> {
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let places = u32::try_from(fraction.len()).ok()?;
        Self::new(digits, 10_i128.checked_pow(places)?)
    }

    pub(super) fn is_integer(self) -> bool {
        self.denominator == 1
    }

    pub(super) fn is_positive(self) -> bool {
        self.numerator > 0
    }

    pub(super) fn is_negative(self) -> bool {
        self.numerator < 0
    }

    /// The whole number, if it is one and small.
    pub(super) fn integer(self) -> Option<i32> {
        i32::try_from(self.numerator)
            .ok()
            .filter(|_| self.is_integer())
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(
            left.checked_add(right)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    pub(super) fn negative(self) -> Option<Self> {
        Self::new(self.numerator.checked_neg()?, self.denominator)
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    pub(super) fn divided_by(self, other: Self) -> Option<Self> {
        self.times(Self::new(other.denominator, other.numerator)?)
    }

    /// To a whole power.
    pub(super) fn power(self, exponent: i32) -> Option<Self> {
        let size = exponent.unsigned_abs();
        if size > MAX_EXPONENT {
            return None;
        }
        let (top, bottom) = (
            self.numerator.checked_pow(size)?,
            self.denominator.checked_pow(size)?,
        );
        if exponent < 0 {
            Self::new(bottom, top)
        } else {
            Self::new(top, bottom)
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest floating-point number is what is asked for"
    )]
    pub(super) fn value(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

fn greatest_common_divisor(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left.max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn fraction(numerator: i128, denominator: i128) -> Rational {
        Rational::new(numerator, denominator).unwrap()
    }

    #[test]
    fn fractions_are_in_lowest_terms() {
        assert_eq!(fraction(2, -4), fraction(-1, 2));
        assert_eq!(fraction(0, -3), fraction(0, 1));
        assert_eq!(Rational::decimal("0", "50"), Some(fraction(1, 2)));
        assert_eq!(Rational::new(1, 0), None);
        assert_eq!(Rational::new(i128::MIN, 1), None);
    }

    #[test]
    fn they_calculate_exactly_or_not_at_all() {
        let (half, third) = (fraction(1, 2), fraction(1, 3));
        assert_eq!(half.plus(third), Some(fraction(5, 6)));
        assert_eq!(half.times(third), Some(fraction(1, 6)));
        assert_eq!(half.divided_by(third), Some(fraction(3, 2)));
        assert_eq!(half.divided_by(fraction(0, 1)), None);
        assert_eq!(half.power(-3), Some(fraction(8, 1)));
        assert_eq!(fraction(0, 1).power(-1), None);
        assert_eq!(fraction(2, 1).power(1000), None);
        assert_eq!(fraction(i128::MAX, 1).plus(half), None);
        assert_eq!(half.value().to_bits(), 0.5_f64.to_bits());
    }
}
