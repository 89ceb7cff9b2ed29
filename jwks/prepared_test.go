package jwks

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Keys of a usual size, of a size that is no whole number of bytes, and with the
// exponent under which forgeries of badly read paddings are the easiest.
var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	keys := []*rsa.PrivateKey{rsaKey(), must(rsa.GenerateKey(rand.Reader, 2052))}
	for one := big.NewInt(1); len(keys) < 3; {
		p, q := must(rand.Prime(rand.Reader, 1024)), must(rand.Prime(rand.Reader, 1024))
		n, phi := new(big.Int).Mul(p, q), new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(big.NewInt(3), phi); d != nil && n.BitLen() == 2048 {
			keys = append(keys, &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 3}, D: d})
		}
	}
	return keys
})

// A signature is accepted if and only if crypto/rsa accepts it. The text that it stands
// for has a part replaced, and the signature itself another length.
func TestPreparedKeysAgreeWithCryptoRSA(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		private := rapid.SampledFrom(rsaKeys()).Draw(t, "key")
		alg := rapid.SampledFrom([]string{"RS256", "RS384", "RS512"}).Draw(t, "alg")
		var part []byte
		if rapid.Bool().Draw(t, "forged") {
			part = rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "part")
		}
		s := forged(private, pkcs1[alg], part, rapid.IntRange(0, private.Size()-1).Draw(t, "at"))
		s = s[:len(s)-rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "shorter")]
		if rapid.IntRange(0, 9).Draw(t, "longer") == 0 {
			s = append([]byte{0}, s...)
		}
		if agree(t, private, alg, s) {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("no signature was accepted, want those that are not forged")
	}
}

func FuzzPreparedKey(f *testing.F) {
	f.Add(uint8(0), []byte{}, uint16(0), []byte(nil))
	f.Add(uint8(1), []byte{0, 1, 0xff, 0}, uint16(0), []byte(nil))
	f.Add(uint8(2), []byte{0, 2}, uint16(0), []byte(nil))
	f.Add(uint8(2), []byte{0xfe}, uint16(3), []byte(nil))
	f.Add(uint8(0), []byte{}, uint16(0), []byte{1})
	f.Fuzz(func(t *testing.T, which uint8, part []byte, at uint16, raw []byte) {
		private := rsaKeys()[int(which)%3]
		alg := []string{"RS256", "RS384", "RS512"}[int(which/3)%3]
		agree(t, private, alg, forged(private, pkcs1[alg], part, int(at)%private.Size()))
		agree(t, private, alg, raw)
	})
}

// forged returns the signature that stands for the right text with a part of it
// replaced from an offset on.
func forged(private *rsa.PrivateKey, hash crypto.Hash, part []byte, at int) []byte {
	text := prepare(private.Public()).encoded(nil, hash, signingInput)
	copy(text[at:], part)
	m := new(big.Int).SetBytes(text)
	return m.Exp(m.Mod(m, private.N), private.D, private.N).FillBytes(make([]byte, private.Size()))
}

// agree reports whether the signature is accepted, and fails the test unless crypto/rsa
// says the same about it, about the same number in another form, and about it under
// another hash.
func agree(t rapid.TB, private *rsa.PrivateKey, alg string, signature []byte) bool {
	t.Helper()
	k, hash := prepare(private.Public()), pkcs1[alg]
	forms := [][]byte{signature}
	if more := new(big.Int).Add(new(big.Int).SetBytes(signature), private.N); more.BitLen() <= 8*private.Size() {
		forms = append(forms, more.FillBytes(make([]byte, private.Size()))) // not less than the modulus
	}
	for _, s := range forms {
		for _, input := range []string{signingInput, "x" + signingInput} {
			digest := hash.New()
			digest.Write([]byte(input))
			want := rsa.VerifyPKCS1v15(&private.PublicKey, hash, digest.Sum(nil), s) == nil
			if got := k.verify(hash, input, s); got != want {
				t.Fatalf("%s, key of %d bits, e = %d, signature %x over %q: accepted %v, but crypto/rsa says %v", alg, private.N.BitLen(), private.E, s, input, got, want)
			}
		}
	}
	return k.verify(hash, signingInput, signature)
}

// A signature is as long as its key. The same number without its leading zero, or with
// another one, is no signature.
func TestLengthOfAnRSASignature(t *testing.T) {
	private := rsaKeys()[1] // its first byte has four bits, so a signature often begins with a zero
	for n := range 1000 {
		input := fmt.Sprint(n)
		digest := sha256.Sum256([]byte(input))
		s := must(rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:]))
		if s[0] != 0 {
			continue
		}
		for form, want := range map[string]bool{string(s): true, string(s[1:]): false, "\x00" + string(s): false} {
			if got := prepare(private.Public()).verify(crypto.SHA256, input, []byte(form)); got != want {
				t.Errorf("a signature of %d bytes for a key of %d: accepted %v, want %v", len(form), private.Size(), got, want)
			}
		}
		return
	}
	t.Fatal("no signature of 1000 begins with a zero")
}

// Only sound RSA keys are prepared, and every RSA key in use is.
func TestWhichKeysArePrepared(t *testing.T) {
	n := rsaKey().N
	for name, pub := range map[string]crypto.PublicKey{
		"even": &rsa.PublicKey{N: new(big.Int).Add(n, big.NewInt(1)), E: 65537}, "huge exponent": &rsa.PublicKey{N: n, E: 1<<31 + 1},
		"even exponent": &rsa.PublicKey{N: n, E: 4}, "small": &rsa.PublicKey{N: big.NewInt(15), E: 3}, "P-256": p256().Public(), "none": nil,
	} {
		if prepare(pub) != nil {
			t.Errorf("%s: is prepared, want not", name)
		}
	}
	s := must(newSet([]Key{{ID: "a", Public: rsaKey().Public()}, {ID: "b", Public: p256().Public()}}, DefaultAlgorithms, timeZero))
	for q, keys := range s.answers {
		for _, k := range keys {
			if _, isRSA := k.Public.(*rsa.PublicKey); isRSA != (k.prepared != nil) {
				t.Errorf("%v: prepared %v, want an RSA key alone to be", q, k.prepared)
			}
		}
	}
}

// The ways to verify a signature that the libraries offer: golang-jwt over crypto/rsa,
// as for every key that is not prepared, and a prepared key.
//
//	go test -run '^$' -bench Verify -benchmem ./jwks
func BenchmarkVerify(b *testing.B) {
	ready := func(k Key) Key { k.prepared = prepare(k.Public); return k }
	pub := Key{Public: rsaKey().Public()}
	for _, c := range []struct {
		name string
		alg  string
		key  Key
		by   crypto.Signer
	}{
		{"RS256/crypto-rsa", "RS256", pub, rsaKey()},
		{"RS256/prepared", "RS256", ready(pub), rsaKey()},
		{"PS256/crypto-rsa", "PS256", pub, rsaKey()},
		{"ES256/golang-jwt", "ES256", Key{Public: p256().Public()}, p256()},
		{"EdDSA/golang-jwt", "EdDSA", Key{Public: edKey().Public()}, edKey()},
	} {
		signature := signed(b, algorithms[c.alg].method, c.by)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Verify(c.alg, c.key, signingInput, signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
