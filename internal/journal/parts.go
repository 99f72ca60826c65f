package journal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Lane is live or exercise. The numbers are those of minato.v1.Lane.
type Lane uint8

// The lanes.
const (
	Live     Lane = 1 // 実
	Exercise Lane = 2 // 訓練
)

// lane maps a lane to its streams, in the order reports, receipts, cursors, parts.
var lanes = map[Lane][4]Stream{
	Live:     {LiveReports, LiveReceipts, LiveCursors, liveParts},
	Exercise: {ExerciseReports, ExerciseReceipts, ExerciseCursors, exerciseParts},
}

// Reports is the lane's stream of accepted reports. A lane that is none of the
// two has the empty stream, which every method refuses.
func (l Lane) Reports() Stream { return lanes[l][0] }

// Receipts is the lane's stream of receipts.
func (l Lane) Receipts() Stream { return lanes[l][1] }

// Cursors is the lane's stream of cursors.
func (l Lane) Cursors() Stream { return lanes[l][2] }

// A part is stored as sealed chunks under chunk.<id>.<upload> and, once all of
// them are stored, a head under <id> that names the upload. Each chunk is
// sealed with AES-256-GCM under a key of this upload alone; its nonce is its
// number and whether it is the last (the STREAM construction), so a chunk that
// is changed, missing, moved, repeated or from another part does not open.

const (
	chunkBytes = 128 << 10
	saltBytes  = 32
	headBytes  = 1 + saltBytes + 8
)

// PartInfo is one stored part.
type PartInfo struct {
	ID   string
	Size int64
	Time time.Time // when it was complete
}

// PutPart stores what r holds under id, one word of [a-z0-9-]. The part is
// there for others when the whole of it is stored, and durable after Durable.
// *ExistsError: the id has a part, which stays as it is. When r fails, nothing
// is kept and the error is r's. Other errors as for Append.
func (j *Journal) PutPart(ctx context.Context, lane Lane, id string, r io.Reader) (err error) {
	s, err := lane.parts(id)
	if err != nil {
		return err
	}
	switch old, err := j.Last(ctx, s, headKey(id)); {
	case err == nil:
		return &ExistsError{Stream: s, Seq: old.Seq}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return fmt.Errorf("draw a key: %w", err)
	}
	seal, err := j.sealer(s, id, salt)
	if err != nil {
		return err
	}
	chunks := chunkKey(id, salt)
	kept := false
	defer func() {
		if err != nil && !kept {
			// What ctx ended is cleaned up all the same.
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
			defer cancel()
			if perr := j.purge(clean, s, chunks); perr != nil && !j.isClosed() {
				j.log.Warn("chunks left until the next start", "err", perr)
			}
		}
	}()

	var size uint64
	buf, ahead := make([]byte, chunkBytes), make([]byte, chunkBytes)
	n, err := readChunk(r, buf)
	for i := uint64(0); err == nil; i++ {
		// The next chunk is read first: only then is it known which is the last.
		var m int
		last := n < chunkBytes
		if !last {
			if m, err = readChunk(r, ahead); err != nil {
				break
			}
			last = m == 0
		}
		if i >= math.MaxUint32 {
			return tooLarge(math.MaxInt)
		}
		sealed := seal.Seal(nil, chunkNonce(uint32(i), last), buf[:n], nil)
		if _, err := j.publish(ctx, s, chunks, sealed, false); err != nil {
			return err
		}
		size += uint64(n)
		if last {
			head := append([]byte{1}, salt...)
			head = binary.BigEndian.AppendUint64(head, size)
			// With no answer the part may be whole, so its chunks stay. If it is
			// not, the next start removes them.
			_, err := j.publish(ctx, s, headKey(id), head, true)
			kept = errors.Is(err, ErrUnknown)
			return err
		}
		buf, ahead, n = ahead, buf, m
	}
	return fmt.Errorf("read the part: %w", err)
}

// readChunk fills buf as far as r goes. Only io.EOF is its end: a sender that
// was cut off reports io.ErrUnexpectedEOF, which is a failure.
func readChunk(r io.Reader, buf []byte) (n int, err error) {
	for idle := 0; n < len(buf); {
		m, err := r.Read(buf[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, io.ErrNoProgress
			}
		}
	}
	return n, nil
}

// OpenPart reads a part, or returns ErrNotFound. A part that is not whole or
// was changed ends in ErrDamaged, never in io.EOF: what was read before that
// is genuine but must not be taken for the part. Reading ends with ctx.
func (j *Journal) OpenPart(ctx context.Context, lane Lane, id string) (io.ReadCloser, error) {
	s, err := lane.parts(id)
	if err != nil {
		return nil, err
	}
	r, err := j.Last(ctx, s, headKey(id))
	if err != nil {
		return nil, err
	}
	salt, size, err := parseHead(r)
	if err != nil {
		return nil, err
	}
	seal, err := j.sealer(s, id, salt)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	go func() {
		defer cancel()
		// A write to a reader that has gone away ends with ctx.
		stop := context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
		defer stop()
		pw.CloseWithError(j.copyPart(ctx, s, chunkKey(id, salt), r.Seq, seal, size, pw))
	}()
	return &partReader{PipeReader: pr, cancel: cancel}, nil
}

type partReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the reading; the rest of the part is not fetched.
func (p *partReader) Close() error {
	p.cancel()
	return p.PipeReader.Close()
}

// copyPart writes the opened chunks to w; nil means the part was whole.
func (j *Journal) copyPart(ctx context.Context, s Stream, chunks string, to uint64, seal cipher.AEAD, size uint64, w io.Writer) error {
	o := opening{seal: seal, size: size}
	most := size/chunkBytes + 1
	_, err := j.scan(ctx, s, streams[s].prefix+"."+chunks, to, most, func(r Record) error {
		plain, err := o.open(r.Data)
		if err == nil {
			_, err = w.Write(plain)
		}
		return err
	})
	if err == nil {
		err = o.end()
	}
	return err
}

// opening opens the chunks of one part in order.
type opening struct {
	seal  cipher.AEAD
	size  uint64 // of the whole part
	plain []byte
	got   uint64
	next  uint32
	whole bool // the last chunk was opened
}

// open returns what a chunk holds, until the next call.
func (o *opening) open(sealed []byte) ([]byte, error) {
	if o.whole || len(sealed) < o.seal.Overhead() || len(sealed) > chunkBytes+o.seal.Overhead() {
		return nil, damagedPart(fmt.Errorf("chunk %d of %d bytes", o.next, len(sealed)))
	}
	last := o.got+uint64(len(sealed)-o.seal.Overhead()) == o.size
	plain, err := o.seal.Open(o.plain[:0], chunkNonce(o.next, last), sealed, nil)
	if err != nil {
		return nil, damagedPart(fmt.Errorf("chunk %d does not open", o.next))
	}
	o.plain, o.whole = plain, last
	o.got += uint64(len(plain))
	o.next++
	return plain, nil
}

// end says whether the part was whole.
func (o *opening) end() error {
	if !o.whole {
		return damagedPart(fmt.Errorf("%d of %d bytes", o.got, o.size))
	}
	return nil
}

func damagedPart(err error) error {
	return damaged("a part is not as it was stored", "添付が保存時の内容と異なります", err)
}

// DeletePart removes a part; one that is not there is no error. The space is
// given back later. The erasure is not durable before Durable.
func (j *Journal) DeletePart(ctx context.Context, lane Lane, id string) error {
	s, err := lane.parts(id)
	if err != nil {
		return err
	}
	head, err := j.Last(ctx, s, headKey(id))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	var salt []byte
	if err == nil {
		salt, _, err = parseHead(head)
	}
	if errors.Is(err, ErrDamaged) { // which chunks are its own is lost
		if err := j.purge(ctx, s, headKey(id)); err != nil {
			return err
		}
		return j.purge(ctx, s, "chunk."+id+".*")
	}
	if err != nil {
		return err
	}
	// The head goes first, so that nobody opens half a part; and only this one
	// and its chunks, so that a new upload of the same part is left alone.
	js, err := jetstream.New(j.writes)
	if err != nil {
		return fmt.Errorf("speak to the store: %w", err)
	}
	st, err := js.Stream(ctx, string(s))
	if err == nil {
		err = st.DeleteMsg(ctx, head.Seq)
	}
	if err != nil {
		if _, again := j.Get(ctx, s, head.Seq); errors.Is(again, ErrNotFound) {
			return nil // somebody else did it, and removes the chunks
		}
		return fmt.Errorf("delete from %s: %w", s, err)
	}
	return j.purge(ctx, s, chunkKey(id, salt))
}

// ListParts hands over every part of a lane. An error of fn ends it.
func (j *Journal) ListParts(ctx context.Context, lane Lane, fn func(PartInfo) error) error {
	s, err := lane.parts("any")
	if err != nil {
		return err
	}
	return j.Match(ctx, s, headKey("*"), func(r Record) error {
		_, size, err := parseHead(r)
		if err != nil {
			return err
		}
		return fn(PartInfo{ID: strings.TrimPrefix(r.Key, "head."), Size: int64(size), Time: r.Time})
	})
}

func headKey(id string) string { return "head." + id }

func chunkKey(id string, salt []byte) string {
	return "chunk." + id + "." + hex.EncodeToString(salt[:16])
}

func parseHead(r Record) (salt []byte, size uint64, err error) {
	if len(r.Data) != headBytes || r.Data[0] != 1 {
		return nil, 0, damagedPart(fmt.Errorf("head of %d bytes", len(r.Data)))
	}
	size = binary.BigEndian.Uint64(r.Data[1+saltBytes:])
	if size > chunkBytes*math.MaxUint32 {
		return nil, 0, damagedPart(errors.New("head with an impossible size"))
	}
	return r.Data[1 : 1+saltBytes], size, nil
}

func (l Lane) parts(id string) (Stream, error) {
	s := lanes[l][3]
	if s == "" {
		return "", fmt.Errorf("journal: no lane %d", l)
	}
	if strings.Contains(id, ".") || !keyForm.MatchString(id) {
		return "", fmt.Errorf("journal: part id %.80q is not one word of [a-z0-9-], 1 to 64", id)
	}
	return s, nil
}

// sealer makes the cipher of one upload.
func (j *Journal) sealer(s Stream, id string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, j.parts, salt, "minato part "+string(s)+" "+id, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a part: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a part: %w", err)
	}
	return cipher.NewGCM(block)
}

func chunkNonce(i uint32, last bool) []byte {
	n := binary.BigEndian.AppendUint32(make([]byte, 7, 12), i)
	if last {
		return append(n, 1)
	}
	return append(n, 0)
}

// purge removes all messages of a key, which may hold wildcards.
func (j *Journal) purge(ctx context.Context, s Stream, key string) error {
	if j.isClosed() {
		return ErrClosed
	}
	js, err := jetstream.New(j.writes)
	if err != nil {
		return fmt.Errorf("speak to the store: %w", err)
	}
	st, err := js.Stream(ctx, string(s))
	if err == nil {
		err = st.Purge(ctx, jetstream.WithPurgeSubject(streams[s].prefix+"."+key))
	}
	if err != nil {
		return fmt.Errorf("delete from %s: %w", s, err)
	}
	return nil
}

// sweepParts removes the chunks of uploads that a crash cut off. It runs
// before anybody can upload.
func (j *Journal) sweepParts(ctx context.Context) error {
	js, err := jetstream.New(j.writes)
	if err != nil {
		return fmt.Errorf("speak to the store: %w", err)
	}
	for _, lane := range []Lane{Live, Exercise} {
		s := lanes[lane][3]
		whole := make(map[string]bool)
		err := j.Match(ctx, s, headKey("*"), func(r Record) error {
			salt, _, err := parseHead(r)
			if err == nil {
				whole[chunkKey(strings.TrimPrefix(r.Key, "head."), salt)] = true
			}
			return err
		})
		if err != nil {
			return err
		}
		st, err := js.Stream(ctx, string(s))
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", s, err)
		}
		info, err := st.Info(ctx, jetstream.WithSubjectFilter(streams[s].prefix+".chunk.>"))
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", s, err)
		}
		for subject := range info.State.Subjects {
			if key := strings.TrimPrefix(subject, streams[s].prefix+"."); !whole[key] {
				if err := j.purge(ctx, s, key); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
