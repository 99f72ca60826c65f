package node

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// author is a node that has joined and does not run, with a profile.
func author(t *testing.T) *runningNode {
	t.Helper()
	n := idle(t)
	require.NoError(t, n.store.setProfile(t.Context(), memberProfile(), false))
	return n
}

func idle(t *testing.T) *runningNode {
	t.Helper()
	h := newFakeHub(t, GRPC)
	c, err := ReadConfig(h.join(t) + "/node.toml")
	require.NoError(t, err)
	n, err := Open(t.Context(), c, newLog().logger())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return &runningNode{Node: n}
}

// requireFirstReport demands every field that a first report must carry, also
// inside of the messages that are there.
func requireFirstReport(t *testing.T, path string, m protoreflect.Message) {
	t.Helper()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if !proto.GetExtension(f.Options(), pb.E_FirstReport).(bool) {
			continue
		}
		require.True(t, m.Has(f), "%s%s is not filled", path, f.Name())
		if f.Kind() == protoreflect.MessageKind && !f.IsList() {
			requireFirstReport(t, path+string(f.Name())+".", m.Get(f).Message())
		}
	}
}

func TestWhatTheAuthorLeavesOutComesFromTheProfileOrIsUnknown(t *testing.T) {
	n := author(t)
	before := time.Now().Truncate(time.Second)
	r, err := n.complete(t.Context(), draft("件名"))
	require.NoError(t, err)
	requireFirstReport(t, "", r.ProtoReflect())
	require.Equal(t, "東ターミナル", r.GetReporter().GetOrganisation())
	require.Equal(t, "当直", r.GetReporter().GetUnit())
	require.Len(t, r.GetReporter().GetContacts(), 4, "the contacts of every desk")
	require.Equal(t, "東", r.GetPlace().GetTerminal())
	require.Equal(t, pb.Certainty_CERTAINTY_PROBABLE, r.GetPlace().GetCertainty())
	require.Equal(t, pb.Reason_REASON_SHARING, r.GetReason())
	require.Equal(t, pb.Kind_KIND_INCIDENT, r.GetKind())
	require.Equal(t, pb.SecrecyRegime_SECRECY_REGIME_NONE, r.GetSecrecyRegime())
	require.Equal(t, pb.RouteChoice_ROUTE_CHOICE_DIRECT, r.GetRouteChoice())
	require.Equal(t, uint32(1), r.GetSequence())
	require.Equal(t, pb.Stage_STAGE_PRELIMINARY, r.GetStage())
	require.Equal(t, []pb.EventType{pb.EventType_EVENT_TYPE_UNKNOWN}, r.GetEvent().GetTypes())
	for _, c := range []pb.Certainty{
		r.GetOccurred().GetCertainty(), r.GetEvent().GetCertainty(), r.GetCause().GetCertainty(), r.GetImpact().GetCertainty(),
		r.GetSpread().GetCertainty(), r.GetRecovery().GetCertainty(),
	} {
		require.Equal(t, pb.Certainty_CERTAINTY_UNKNOWN, c)
	}
	require.Nil(t, r.GetOccurred().GetTime())
	require.Equal(t, pb.PersonalData_PERSONAL_DATA_UNKNOWN, r.GetPersonalData())
	require.False(t, r.GetRecognised().GetTime().AsTime().Before(before))
	require.Equal(t, keptByDefault, r.GetRetentionTime().AsTime().Sub(r.GetCreateTime().AsTime()))
	require.Len(t, r.GetReportId(), 32)
	require.Len(t, r.GetCaseId(), 32)
	require.NotEqual(t, r.GetReportId(), r.GetCaseId())
	require.Equal(t, pb.TlpLabel_TLP_LABEL_CLEAR, r.GetTlp(), "a label is never filled in or changed")
}

func TestALabelIsNeverFilledIn(t *testing.T) {
	r, err := author(t).complete(t.Context(), &pb.Report{Lane: pb.Lane_LANE_LIVE, Title: "件名", Summary: "概要"})
	require.NoError(t, err)
	require.Equal(t, pb.TlpLabel_TLP_LABEL_UNSPECIFIED, r.GetTlp())
}

func TestWithoutAProfileThePlaceIsUnknownAndNobodyIsInvented(t *testing.T) {
	r, err := idle(t).complete(t.Context(), draft("件名"))
	require.NoError(t, err)
	require.Equal(t, pb.Certainty_CERTAINTY_UNKNOWN, r.GetPlace().GetCertainty())
	require.Empty(t, r.GetReporter().GetOrganisation())
	require.Empty(t, r.GetReporter().GetContacts())
}

// TestNothingThatTheAuthorWroteIsOverwritten fills every field of a report, one
// at a time and all together, and looks for each in the completed one.
func TestNothingThatTheAuthorWroteIsOverwritten(t *testing.T) {
	n := author(t)
	full := new(pb.Report)
	fillMessage(full.ProtoReflect())
	full.DerivedFrom = nil // has tests of its own
	r, err := n.complete(t.Context(), full)
	require.NoError(t, err)
	require.True(t, proto.Equal(full, r), "nothing is added to a full report, nor taken away")

	fields := full.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Name() == "derived_from" {
			continue
		}
		one := &pb.Report{Lane: pb.Lane_LANE_LIVE}
		one.ProtoReflect().Set(f, full.ProtoReflect().Get(f))
		r, err := n.complete(t.Context(), one)
		require.NoError(t, err)
		requireContains(t, string(f.Name()), one.ProtoReflect(), r.ProtoReflect())
		if f.Kind() != protoreflect.MessageKind || f.IsList() {
			continue
		}
		inner := full.ProtoReflect().Get(f).Message()
		for j := range inner.Descriptor().Fields().Len() {
			g := inner.Descriptor().Fields().Get(j)
			part := &pb.Report{Lane: pb.Lane_LANE_LIVE}
			part.ProtoReflect().Mutable(f).Message().Set(g, inner.Get(g))
			r, err := n.complete(t.Context(), part)
			require.NoError(t, err)
			requireContains(t, string(f.Name())+"."+string(g.Name()), part.ProtoReflect(), r.ProtoReflect())
		}
	}
}

// requireContains demands that every field of a stands in b with its value.
func requireContains(t *testing.T, path string, a, b protoreflect.Message) {
	t.Helper()
	a.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() == protoreflect.MessageKind && !f.IsList() {
			require.True(t, b.Has(f), path)
			requireContains(t, path, v.Message(), b.Get(f).Message())
			return true
		}
		require.True(t, v.Equal(b.Get(f)), "%s is overwritten: %v became %v", path, v, b.Get(f))
		return true
	})
}

// fillMessage sets every field to something that is not its default.
func fillMessage(m protoreflect.Message) {
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		ts.Seconds = 1_800_000_000
		return
	}
	value := func(f protoreflect.FieldDescriptor) protoreflect.Value {
		switch f.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(strings.Repeat("0a", 16))
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte{1})
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(2)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(3)
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(3)
		default:
			panic("a kind that the test does not know: " + f.Kind().String())
		}
	}
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			fillMessage(m.Mutable(f).List().AppendMutable().Message())
		case f.IsList():
			m.Mutable(f).List().Append(value(f))
		case f.Kind() == protoreflect.MessageKind:
			fillMessage(m.Mutable(f).Message())
		default:
			m.Set(f, value(f))
		}
	}
}

func TestFollowUpsAreNumberedWithinTheirCase(t *testing.T) {
	n := author(t)
	first, err := n.complete(t.Context(), draft("第一報"))
	require.NoError(t, err)
	n.publish(t, first)
	for want := uint32(2); want <= 4; want++ {
		next := draft("続報")
		next.CaseId = first.GetCaseId()
		id := n.publish(t, next)
		row, err := n.store.outboxRow(t.Context(), id)
		require.NoError(t, err)
		r := new(pb.Report)
		require.NoError(t, proto.Unmarshal(row.report, r))
		require.Equal(t, want, r.GetSequence())
		require.Equal(t, pb.Stage_STAGE_FOLLOW_UP, r.GetStage())
	}
	last := draft("取り下げ")
	last.CaseId, last.Stage, last.Sequence = first.GetCaseId(), pb.Stage_STAGE_WITHDRAWAL, 9
	r, err := n.complete(t.Context(), last)
	require.NoError(t, err)
	require.Equal(t, pb.Stage_STAGE_WITHDRAWAL, r.GetStage())
	require.Equal(t, uint32(9), r.GetSequence())
	other, err := n.complete(t.Context(), draft("別の事案"))
	require.NoError(t, err)
	require.Equal(t, uint32(1), other.GetSequence())
}

func TestASecondReportOfTheSameNumberIsRefused(t *testing.T) {
	n := author(t)
	r, err := n.complete(t.Context(), draft("第一報"))
	require.NoError(t, err)
	n.publish(t, r)
	_, err = n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: r})
	requireBilingual(t, err, errDuplicate)
	again := proto.CloneOf(r)
	again.ReportId = newID(t)
	_, err = n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: again})
	requireBilingual(t, err, errDuplicate)
}

func TestWhatCannotBeSentIsRefusedBeforeTheOutbox(t *testing.T) {
	n := author(t)
	big := draft("大きい")
	big.Response = strings.Repeat("x", 1<<20)
	_, err := n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: big})
	refusal, ok := rpc.RefusalOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, codes.InvalidArgument, refusal.Code)
	require.Equal(t, "REPORT_TOO_LARGE", refusal.Reason)
	noLane := draft("区分")
	noLane.Lane = pb.Lane_LANE_UNSPECIFIED
	_, err = n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: noLane})
	require.ErrorContains(t, err, "LANE_EXERCISE", "a drill is never published as real by default")
	_, err = n.PublishReport(t.Context(), &pb.PublishReportRequest{})
	require.ErrorContains(t, err, "report is missing")
	missing := draft("添付", &pb.Part{Digest: make([]byte, 32), Size: 1})
	_, err = n.PublishReport(t.Context(), &pb.PublishReportRequest{Report: missing})
	requireBilingual(t, err, errNotFound)
	c, err := n.store.counts(t.Context())
	require.NoError(t, err)
	require.Zero(t, c.queued)
}

func TestTheOutboxHoldsWhatTheNodeSignedAndEachLaneItsOwnType(t *testing.T) {
	n := author(t)
	key := n.id.signing.Public().(ed25519.PublicKey)
	for lane, own := range map[pb.Lane]string{liveLane: seal.LiveReportType, exerciseLane: seal.ExerciseReportType} {
		d := draft("署名")
		d.Lane = lane
		row, err := n.store.outboxRow(t.Context(), n.publish(t, d))
		require.NoError(t, err)
		env := new(pb.Envelope)
		require.NoError(t, proto.Unmarshal(row.envelope, env))
		payload, err := seal.Verify(env, own, key)
		require.NoError(t, err)
		require.Equal(t, row.report, payload)
		for _, other := range []string{seal.LiveReportType, seal.ExerciseReportType, seal.SubmitReceiptType, seal.DeliveryReceiptType} {
			if other != own {
				_, err := seal.Verify(env, other, key)
				require.ErrorIs(t, err, seal.ErrType)
				env.PayloadType = other // passed off as another
				_, err = seal.Verify(env, other, key)
				require.ErrorIs(t, err, seal.ErrSignature)
				env.PayloadType = own
			}
		}
	}
}

func TestPublishingWhileTheHubIsAwayEndsAtTheWait(t *testing.T) {
	n := author(t) // does not run, so nothing is ever sent
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	item, err := n.awaitAnswer(t.Context(), n.publish(t, draft("待ち")), time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_QUEUED, item.GetState())
	item, err = n.awaitAnswer(context.WithoutCancel(ctx), item.GetReport(), 0)
	require.NoError(t, err)
	require.Equal(t, pb.OutboxState_OUTBOX_STATE_QUEUED, item.GetState())
}
