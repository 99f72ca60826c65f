package journal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzOpening: whatever the stored chunks are, what an opening hands over is
// the beginning of the part, and only the whole part ends well.
func FuzzOpening(f *testing.F) {
	f.Add(uint32(300<<10), uint8(0), uint8(1), uint16(7), byte(1))
	f.Add(uint32(0), uint8(1), uint8(0), uint16(0), byte(0))
	f.Add(uint32(chunkBytes), uint8(2), uint8(0), uint16(20), byte(255))
	f.Add(uint32(2*chunkBytes), uint8(3), uint8(1), uint16(0), byte(3))
	f.Add(uint32(2*chunkBytes+1), uint8(4), uint8(2), uint16(16), byte(3))
	f.Add(uint32(2*chunkBytes+1), uint8(5), uint8(2), uint16(16), byte(3))
	j := &Journal{parts: derive(testKey, "minato journal parts")}
	f.Fuzz(func(t *testing.T, n uint32, how, which uint8, at uint16, x byte) {
		data := bytes.Repeat([]byte{x, 1, 2}, int(n%(5*chunkBytes))/3+1)
		seal, err := j.sealer(liveParts, "p", bytes.Repeat([]byte{x}, saltBytes))
		require.NoError(t, err)
		var chunks [][]byte
		for i, rest := 0, data; ; i++ {
			c := rest[:min(len(rest), chunkBytes)]
			rest = rest[len(c):]
			chunks = append(chunks, seal.Seal(nil, chunkNonce(uint32(i), len(rest) == 0), c, nil))
			if len(rest) == 0 {
				break
			}
		}
		size, i := uint64(len(data)), int(which)%len(chunks)
		k := (i + 1 + int(x)) % len(chunks)
		changed := true
		switch how % 8 {
		case 0:
			changed = false
		case 1:
			chunks[i][int(at)%len(chunks[i])] ^= x | 1
		case 2:
			chunks[i] = chunks[i][:int(at)%len(chunks[i])]
		case 3:
			chunks = append(chunks[:i], chunks[i+1:]...)
		case 4:
			chunks[i], chunks[k] = chunks[k], chunks[i]
			changed = i != k
		case 5:
			chunks = append(chunks, chunks[i])
		case 6:
			size += uint64(at) + 1
		case 7:
			chunks[i] = append(chunks[i], bytes.Repeat([]byte{x}, int(at)+1)...)
		}
		o := opening{seal: seal, size: size}
		var got []byte
		for _, c := range chunks {
			var plain []byte
			if plain, err = o.open(c); err != nil {
				break
			}
			got = append(got, plain...)
		}
		if err == nil {
			err = o.end()
		}
		require.True(t, bytes.HasPrefix(data, got))
		if !changed {
			require.NoError(t, err)
			require.Equal(t, len(data), len(got))
			return
		}
		require.ErrorIs(t, err, ErrDamaged)
	})
}
