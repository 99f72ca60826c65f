package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// unclaimedFor is how long a part may wait for its report.
const unclaimedFor = 24 * time.Hour

// partShelf knows which parts are stored and which a report names. Parts are
// kept per member: nobody can ask whether another member has stored something.
type partShelf struct {
	mu     sync.Mutex
	stored map[string]storedPart // by partID
	named  map[string]int        // how many reports name it
}

type storedPart struct {
	member string // empty for those of an earlier run
	time   time.Time
	size   uint64
}

func newPartShelf() partShelf {
	return partShelf{stored: map[string]storedPart{}, named: map[string]int{}}
}

// partID is a part's name in the journal: a hash, for names are bounded there.
func partID(member string, digest []byte) string {
	id := sha256.Sum256(append([]byte(member+"/"), digest...))
	return hex.EncodeToString(id[:])
}

// claim reserves the parts of a report about to be appended, so that they are
// not removed meanwhile. release undoes it when the report was not appended.
func (s *partShelf) claim(member string, parts []*pb.Part) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bad []rpc.Violation
	for _, p := range parts {
		if got, ok := s.stored[partID(member, p.GetDigest())]; !ok || got.size != p.GetSize() {
			bad = append(bad, violation("parts", "PART_MISSING",
				fmt.Sprintf("添付 %x がハブに届いていません。先に送ってください (自動で送り直します)。", p.GetDigest()[:4]),
				fmt.Sprintf("Part %x is not at the hub. Upload it first (the node does so by itself).", p.GetDigest()[:4])))
		}
	}
	if len(bad) > 0 {
		return nil, &rpc.Refusal{Code: codes.FailedPrecondition, Reason: "PART_MISSING", Violations: bad}
	}
	for _, p := range parts {
		s.named[partID(member, p.GetDigest())]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range parts {
			s.named[partID(member, p.GetDigest())]--
		}
	}, nil
}

// refer notes the parts of an accepted report.
func (s *partShelf) refer(a *pb.ReportAccepted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range a.GetParts() {
		s.named[partID(a.GetSource(), p.GetDigest())]++
	}
}

func (s *partShelf) put(id string, p storedPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[id] = p
}

func (s *partShelf) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.stored[id]
	return ok
}

// waiting is how many bytes a member has stored that no report names yet.
func (s *partShelf) waiting(member string) (bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.stored {
		if s.named[id] <= 0 && p.member == member {
			bytes += p.size
		}
	}
	return bytes
}

// takeUnclaimed removes from the shelf, and returns, what waited too long.
func (s *partShelf) takeUnclaimed(before time.Time) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.stored {
		if s.named[id] <= 0 && p.time.Before(before) {
			ids = append(ids, id)
			delete(s.stored, id)
		}
	}
	return ids
}

func (h *Hub) loadParts(ctx context.Context, l *lane) error {
	return h.journal.ListParts(ctx, journal.Lane(l.kind), func(p journal.PartInfo) error {
		l.parts.put(p.ID, storedPart{time: p.Time, size: uint64(p.Size)})
		return nil
	})
}

// sweepParts removes parts that no report has named within a day.
func (h *Hub) sweepParts(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		for _, l := range h.lanes {
			for _, id := range l.parts.takeUnclaimed(time.Now().Add(-unclaimedFor)) {
				if err := h.journal.DeletePart(ctx, journal.Lane(l.kind), id); err != nil {
					h.log.WarnContext(ctx, "unclaimed part not removed", "lane", l.kind, "err", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// UploadPart stores one part, sealed, under its digest. The bytes are checked
// against the digest while they are written; a part that differs is not kept.
func (h *Hub) UploadPart(stream pb.HubService_UploadPartServer) error {
	ctx := stream.Context()
	from, err := h.sender(ctx)
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	p := first.GetPart()
	if p == nil {
		return refusal([]rpc.Violation{missing("part")})
	}
	l, err := h.lane(first.GetLane())
	if err != nil {
		return err
	}
	described := &pb.Part{Digest: p.GetDigest(), Size: p.GetSize(), Class: pb.DisclosureClass_DISCLOSURE_CLASS_MESSAGE}
	if bad := checkPart("part", described, h.limits); len(bad) > 0 {
		return refusal(bad)
	}
	id := partID(from.id.member, p.GetDigest())
	if !l.parts.has(id) {
		if l.parts.waiting(from.id.member)+p.GetSize() > 2*uint64(h.limits.parts) {
			return rpc.Refuse(codes.ResourceExhausted, "PARTS_WAITING", "part",
				"報告に使われていない添付が多すぎます。先に送った添付の報告を送信するか、1日待ってください。",
				"Too many uploaded parts wait for a report. Submit their reports, or wait a day.")
		}
		in := &partReader{stream: stream, rest: first.GetData(), want: p, hash: sha256.New()}
		if err := h.journal.PutPart(ctx, journal.Lane(l.kind), id, in); err != nil && !errors.As(err, new(*journal.ExistsError)) {
			if r, ok := rpc.RefusalOf(in.failed); ok {
				return r
			}
			if in.failed != nil {
				return in.failed
			}
			return unavailable("store part", err)
		}
		if err := h.writes.Durable(ctx); err != nil {
			return unavailable("make part durable", err)
		}
		l.parts.put(id, storedPart{member: from.id.member, time: time.Now(), size: p.GetSize()})
	}
	return stream.SendAndClose(&pb.UploadPartResponse{})
}

// partReader is the bytes of an upload; it fails at the end when they are not
// those that were announced.
type partReader struct {
	stream pb.HubService_UploadPartServer
	rest   []byte
	want   *pb.Part
	hash   hash.Hash
	size   uint64
	failed error
}

func (r *partReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		in, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			if r.size != r.want.GetSize() || !bytes.Equal(r.hash.Sum(nil), r.want.GetDigest()) {
				return 0, r.fail(refusal([]rpc.Violation{violation("part", "DIGEST_MISMATCH",
					"届いた内容が SHA-256 と一致しません。送り直してください。",
					"The bytes do not match their SHA-256. Send them again.")}))
			}
			return 0, io.EOF
		}
		if err != nil {
			return 0, r.fail(err)
		}
		r.rest = in.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.size += uint64(n)
	if r.size > r.want.GetSize() {
		return 0, r.fail(refusal([]rpc.Violation{violation("part", "DIGEST_MISMATCH",
			"届いた内容が申告より大きいです。送り直してください。", "More bytes came than announced. Send them again.")}))
	}
	r.hash.Write(p[:n])
	return n, nil
}

func (r *partReader) fail(err error) error {
	r.failed = err
	return err
}

// DownloadPart reads one part of a report that the plan gives to the caller,
// or that the caller reported itself.
func (h *Hub) DownloadPart(req *pb.DownloadPartRequest, stream pb.HubService_DownloadPartServer) error {
	ctx := stream.Context()
	from, err := h.sender(ctx)
	if err != nil {
		return err
	}
	l, a, err := h.visible(ctx, req.GetLane(), req.GetReportId(), from)
	if err != nil {
		return err
	}
	named := false
	for _, p := range a.GetParts() {
		named = named || bytes.Equal(p.GetDigest(), req.GetDigest())
	}
	if !named {
		return notFound()
	}
	in, err := h.journal.OpenPart(ctx, journal.Lane(l.kind), partID(a.GetSource(), req.GetDigest()))
	if err != nil {
		return fmt.Errorf("open part: %w", err)
	}
	defer in.Close()
	for buf := make([]byte, 256<<10); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if err := stream.Send(&pb.DownloadPartResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
}
