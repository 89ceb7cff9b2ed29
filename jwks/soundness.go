package jwks

import (
	"crypto/ed25519"
	"math/big"
	"slices"
)

// rocaPrimes are the primes that betray keys of the Infineon library
// (CVE-2017-15361).
var rocaPrimes = []int64{
	11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
}

// rocaResidues has, for each of these primes, the powers of 65537 modulo it.
var rocaResidues = func() []map[int64]bool {
	all := make([]map[int64]bool, len(rocaPrimes))
	for i, p := range rocaPrimes {
		all[i] = map[int64]bool{}
		for x := int64(1); !all[i][x]; x = x * 65537 % p {
			all[i][x] = true
		}
	}
	return all
}()

// madeByROCA reports whether the modulus is a power of 65537 modulo each of the
// primes. That holds for every key that can be factored by this flaw, and for
// one in 2^27 of the others.
func madeByROCA(n *big.Int) bool {
	var r big.Int
	for i, p := range rocaPrimes {
		if !rocaResidues[i][r.Mod(n, big.NewInt(p)).Int64()] {
			return false
		}
	}
	return true
}

var (
	edPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	// edD is d of the curve: -121665/121666.
	edD = func() *big.Int {
		d := new(big.Int).ModInverse(big.NewInt(121666), edPrime)
		d.Mul(d, big.NewInt(-121665))
		return d.Mod(d, edPrime)
	}()
	// edTorsion has the y of the points whose order divides 8. Under such a key
	// anybody can sign anything.
	edTorsion = func() []*big.Int {
		y8, _ := new(big.Int).SetString("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)
		return []*big.Int{
			big.NewInt(0), big.NewInt(1), new(big.Int).Sub(edPrime, big.NewInt(1)), y8, new(big.Int).Sub(edPrime, y8),
		}
	}()
)

// soundEd25519 reports whether these octets are a point of the curve in its one
// canonical form, and not a point of small order. crypto/ed25519 checks only the
// first, and only when it verifies.
func soundEd25519(octets []byte) bool {
	if len(octets) != ed25519.PublicKeySize {
		return false
	}
	b := slices.Clone(octets)
	slices.Reverse(b)
	b[0] &= 0x7f // the sign of x, of which either is a point
	y := new(big.Int).SetBytes(b)
	if y.Cmp(edPrime) >= 0 || slices.ContainsFunc(edTorsion, func(t *big.Int) bool { return t.Cmp(y) == 0 }) {
		return false
	}
	// x² = (y²-1)/(dy²+1) must have a root; 0 has no negative, and is only
	// met by y = ±1, refused above.
	one := big.NewInt(1)
	y2 := new(big.Int).Mul(y, y)
	below := new(big.Int).Mul(edD, y2)
	below.Add(below, one).ModInverse(below.Mod(below, edPrime), edPrime)
	x2 := y2.Sub(y2, one)
	x2.Mul(x2, below).Mod(x2, edPrime)
	return big.Jacobi(x2, edPrime) == 1
}
