//! Complex numbers, with the functions answers are written in. Roots and logarithms are principal values.

/// A number of two parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

/// Whole powers up to this are multiplied out.
const MAX_MULTIPLIED: f64 = 64.0;

impl Complex {
    pub(super) const ONE: Self = Self::real(1.0);
    pub(super) const I: Self = Self::new(0.0, 1.0);

    pub(super) const fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }

    pub(super) const fn real(re: f64) -> Self {
        Self::new(re, 0.0)
    }

    pub(super) fn is_finite(self) -> bool {
        self.re.is_finite() && self.im.is_finite()
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self::new(self.re + other.re, self.im + other.im)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self::new(self.re - other.re, self.im - other.im)
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self::new(
            self.re * other.re - self.im * other.im,
            self.re * other.im + self.im * other.re,
        )
    }

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self::new(self.re * factor, self.im * factor)
    }

    /// Division by 0 is not finite.
    pub(super) fn over(self, other: Self) -> Self {
        let size = other.re * other.re + other.im * other.im;
        let conjugate = Self::new(other.re, -other.im);
        let product = self.times(conjugate);
        Self::new(product.re / size, product.im / size)
    }

    pub(super) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub(super) fn conjugate(self) -> Self {
        Self::new(self.re, -self.im)
    }

    pub(super) fn exp(self) -> Self {
        Self::new(self.im.cos(), self.im.sin()).scaled(self.re.exp())
    }

    /// Of 0 it is not finite.
    pub(super) fn ln(self) -> Self {
        Self::new(self.size().ln(), self.im.atan2(self.re))
    }

    pub(super) fn sqrt(self) -> Self {
        self.power(Self::real(0.5))
    }

    pub(super) fn power(self, exponent: Self) -> Self {
        if exponent.im == 0.0 {
            if exponent.re.fract() == 0.0 && exponent.re.abs() <= MAX_MULTIPLIED {
                return self.multiplied(exponent.re);
            }
            if self.im == 0.0 && self.re >= 0.0 {
                return Self::real(self.re.powf(exponent.re));
            }
            if self.im == 0.0 && exponent.re.to_bits() == 0.5_f64.to_bits() {
                return Self::new(0.0, (-self.re).sqrt());
            }
        }
        exponent.times(self.ln()).exp()
    }

    fn multiplied(self, exponent: f64) -> Self {
        let mut product = Self::ONE;
        let mut times = 0.0;
        while times < exponent.abs() {
            product = product.times(self);
            times += 1.0;
        }
        if exponent < 0.0 {
            Self::ONE.over(product)
        } else {
            product
        }
    }

    pub(super) fn sinh(self) -> Self {
        self.exp().minus(self.scaled(-1.0).exp()).scaled(0.5)
    }

    pub(super) fn cosh(self) -> Self {
        self.exp().plus(self.scaled(-1.0).exp()).scaled(0.5)
    }

    pub(super) fn sin(self) -> Self {
        Self::new(
            self.re.sin() * self.im.cosh(),
            self.re.cos() * self.im.sinh(),
        )
    }

    pub(super) fn cos(self) -> Self {
        Self::new(
            self.re.cos() * self.im.cosh(),
            -self.re.sin() * self.im.sinh(),
        )
    }

    /// asinh z = ln(z + sqrt(z² + 1)).
    pub(super) fn asinh(self) -> Self {
        self.plus(self.times(self).plus(Self::ONE).sqrt()).ln()
    }

    /// acosh z = ln(z + sqrt(z + 1) sqrt(z - 1)).
    pub(super) fn acosh(self) -> Self {
        let roots = self.plus(Self::ONE).sqrt();
        self.plus(roots.times(self.minus(Self::ONE).sqrt())).ln()
    }

    /// atanh z = (ln(1 + z) - ln(1 - z)) / 2.
    pub(super) fn atanh(self) -> Self {
        let (above, below) = (Self::ONE.plus(self).ln(), Self::ONE.minus(self).ln());
        above.minus(below).scaled(0.5)
    }

    /// asin z = -i asinh(iz).
    pub(super) fn asin(self) -> Self {
        Self::I.times(self).asinh().times(Self::I).scaled(-1.0)
    }

    /// acos z = π/2 - asin z.
    pub(super) fn acos(self) -> Self {
        Self::real(std::f64::consts::FRAC_PI_2).minus(self.asin())
    }

    /// atan z = -i atanh(iz).
    pub(super) fn atan(self) -> Self {
        Self::I.times(self).atanh().times(Self::I).scaled(-1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: Complex, right: Complex) -> bool {
        left.minus(right).size() < 1e-12
    }

    #[test]
    fn functions_undo_each_other() {
        let point = Complex::new(0.3, -0.7);
        assert!(near(point.sqrt().times(point.sqrt()), point));
        assert!(near(point.ln().exp(), point));
        assert!(near(point.asin().sin(), point));
        assert!(near(point.acos().cos(), point));
        let atan = point.atan();
        assert!(near(atan.sin().over(atan.cos()), point));
        assert!(near(point.asinh().sinh(), point));
        assert!(near(point.acosh().cosh(), point));
        let atanh = point.atanh();
        assert!(near(atanh.sinh().over(atanh.cosh()), point));
        assert!(near(
            point.power(Complex::real(-2.0)).times(point.times(point)),
            Complex::ONE
        ));
    }

    #[test]
    fn real_numbers_have_their_principal_values() {
        let eight = Complex::real(8.0).power(Complex::real(1.0 / 3.0));
        assert!(near(eight, Complex::real(2.0)));
        assert!(near(Complex::real(-4.0).sqrt(), Complex::new(0.0, 2.0)));
        assert!(!Complex::ONE.over(Complex::real(0.0)).is_finite());
        assert!(!Complex::real(0.0).ln().is_finite());
        assert!(near(
            Complex::real(0.0).power(Complex::real(2.0)),
            Complex::real(0.0)
        ));
    }
}
