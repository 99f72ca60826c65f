package hub

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

var testLimits = check.Limits{Report: 1 << 20, Part: 1000, Parts: 1500}

// told demands of every violation what a person needs to mend it.
func told(t testing.TB, bad []rpc.Violation) []string {
	t.Helper()
	all := []string{}
	for _, v := range bad {
		require.NotEmpty(t, v.Field, "%v", v)
		require.NotEmpty(t, v.Reason, "%v", v)
		require.NotEmpty(t, v.English, "%v", v)
		require.True(t, strings.ContainsFunc(v.Japanese, func(r rune) bool { return r >= 'ぁ' }), "not Japanese: %v", v)
		all = append(all, v.Field+" "+v.Reason)
	}
	return all
}

// fill sets every field of a message, with one entry in every list.
func fill(m protoreflect.Message) {
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		proto.Merge(ts, timestamppb.New(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
		return
	}
	value := func(f protoreflect.FieldDescriptor, message func() protoreflect.Value) protoreflect.Value {
		switch f.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString("x")
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes(make([]byte, 32))
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(1)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(1)
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(1)
		case protoreflect.MessageKind:
			v := message()
			fill(v.Message())
			return v
		}
		panic("a kind that no report has yet: " + f.Kind().String())
	}
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if f.IsList() {
			list := m.Mutable(f).List()
			list.Append(value(f, list.NewElement))
		} else {
			m.Set(f, value(f, func() protoreflect.Value { return m.NewField(f) }))
		}
	}
}

// fullReport has every field of the contract and is accepted.
func fullReport() *pb.Report {
	r := new(pb.Report)
	fill(r.ProtoReflect())
	first := firstReport()
	r.ReportId, r.CaseId, r.Stage, r.Lane = newID(), newID(), pb.Stage_STAGE_PRELIMINARY, pb.Lane_LANE_LIVE
	r.RouteChoice, r.Tlp, r.CommunityId = first.RouteChoice, pb.TlpLabel_TLP_LABEL_AMBER, ""
	r.Recipients = []*pb.Recipient{{Member: "b"}}
	r.Reporter.Contacts = append(r.Reporter.Contacts, testContacts()...)
	r.CreateTime, r.RetentionTime = first.CreateTime, first.RetentionTime
	r.Restrictions.ExpireTime = timestamppb.New(time.Now().AddDate(1, 0, 0))
	other := sha256.Sum256([]byte("attachment"))
	r.Attachments[0].Digest = other[:]
	r.DerivedFrom, r.Relabels = []string{newID()}, newID()
	return r
}

func text(n int) string { return strings.Repeat("x", n) }

func listOf[T any](n int, one func(i int) T) (all []T) {
	for i := range n {
		all = append(all, one(i))
	}
	return all
}

func TestProfileIsBoundedAsTheContractSays(t *testing.T) {
	for _, b := range []struct {
		field, reason string
		limit         int
		set           func(p *pb.Profile, n int)
	}{
		{"profile.organisation", "TEXT_TOO_LONG", 200, func(p *pb.Profile, n int) { p.Organisation = text(n) }},
		{"profile.persons[0].name", "TEXT_TOO_LONG", 200, func(p *pb.Profile, n int) { p.Persons[0].Name = text(n) }},
		{"profile.persons[0].title", "TEXT_TOO_LONG", 200, func(p *pb.Profile, n int) { p.Persons[0].Title = text(n) }},
		{"profile.persons", "TOO_MANY", 200, func(p *pb.Profile, n int) {
			p.Persons = listOf(n, func(i int) *pb.Person { return &pb.Person{Id: fmt.Sprint("p", i), Name: "x"} })
		}},
		{"profile.desks", "TOO_MANY", 20, func(p *pb.Profile, n int) {
			p.Desks = listOf(n, func(int) *pb.Desk { return &pb.Desk{Name: "x", Contacts: testContacts()} })
		}},
		{"profile.desks[0].contacts", "TOO_MANY", 20, func(p *pb.Profile, n int) {
			p.Desks[0].Contacts = listOf(n, func(int) *pb.Contact { return testContacts()[0] })
		}},
	} {
		p := testProfile()
		b.set(p, b.limit)
		require.Empty(t, told(t, checkProfile(p)), "%s at %d", b.field, b.limit)
		b.set(p, b.limit+1)
		require.Equal(t, []string{b.field + " " + b.reason}, told(t, checkProfile(p)), "%s at %d", b.field, b.limit+1)
	}
	require.Equal(t, []string{"profile FIELD_MISSING"}, told(t, checkProfile(nil)))
	p := testProfile()
	p.Persons = []*pb.Person{{Id: "Ciso", Name: "x"}, {Id: "a", Name: ""}, {Id: "b", Name: "x"}, {Id: "b", Name: "y"}}
	p.Desks[0].Contacts = p.Desks[0].Contacts[:1]
	require.Equal(t, []string{
		"profile.persons[0] PERSON_INVALID", "profile.persons[1] PERSON_INVALID", "profile.persons[3] PERSON_TWICE",
		"profile.desks[0] CONTACTS_TOO_FEW",
	}, told(t, checkProfile(p)))
}

func TestAnEmptyReportIsToldEverythingItLacks(t *testing.T) {
	all := told(t, check.Report(new(pb.Report), pb.Lane_LANE_LIVE, testLimits))
	require.Contains(t, all, "tlp TLP_MISSING")
	require.Contains(t, all, "reporter REPORTER_MISSING")
	require.Equal(t, codes.InvalidArgument, refusal(check.Report(new(pb.Report), pb.Lane_LANE_LIVE, testLimits)).Code)
}

func TestARefusalIsPolicyOnlyWhenNothingElseIsWrong(t *testing.T) {
	r := firstReport()
	r.Tlp = pb.TlpLabel_TLP_LABEL_RED // without recipients
	policy := refusal(check.Report(r, pb.Lane_LANE_LIVE, testLimits))
	require.Equal(t, codes.FailedPrecondition, policy.Code)
	r.Title = ""
	require.Equal(t, codes.InvalidArgument, refusal(check.Report(r, pb.Lane_LANE_LIVE, testLimits)).Code)
}

func FuzzPlan(f *testing.F) {
	for _, r := range []*pb.Report{firstReport("b"), fullReport(), {}} {
		data, err := proto.Marshal(r)
		require.NoError(f, err)
		f.Add(data)
	}
	w := worldAt(testDirectory(), time.Now())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := new(pb.Report)
		if proto.Unmarshal(data, r) != nil {
			return
		}
		p, refused := plan(r.Outline(), "a", nil, w)
		require.True(t, (p == nil) == (len(refused) > 0), "a plan or a reason, never both or neither")
		told(t, refused)
	})
}

func FuzzReceipt(f *testing.F) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(f, err)
	node := nodeID{"b", 2}
	payload, err := proto.Marshal(&pb.DeliveryReceipt{ReportId: newID(), Member: "b", Node: 2, State: pb.ReceiptState_RECEIPT_STATE_STORED})
	require.NoError(f, err)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(f, err)
	for _, env := range []*pb.Envelope{
		seal.Sign(private, seal.DeliveryReceiptType, payload), seal.Sign(stranger, seal.DeliveryReceiptType, payload),
		seal.Sign(private, seal.LiveReportType, payload), {},
	} {
		data, err := proto.Marshal(env)
		require.NoError(f, err)
		f.Add(data, false)
	}
	f.Add(payload, true)
	f.Add([]byte{0xff}, true)
	f.Fuzz(func(t *testing.T, data []byte, signed bool) {
		env := new(pb.Envelope)
		if signed {
			env = seal.Sign(private, seal.DeliveryReceiptType, data)
		} else if proto.Unmarshal(data, env) != nil {
			return
		}
		r, _, err := openReceipt(env, public, node)
		if err != nil {
			require.Nil(t, r)
			return
		}
		require.Equal(t, node, nodeID{r.GetMember(), r.GetNode()})
		if !signed {
			require.Equal(t, payload, env.GetPayload(), "nobody but the node can sign another receipt")
		}
	})
}

func FuzzAccepted(f *testing.F) {
	r := fullReport()
	digest := sha256.Sum256(nil)
	data, err := proto.Marshal(&pb.ReportRecord{Record: &pb.ReportRecord_Accepted{Accepted: &pb.ReportAccepted{
		ReportId: r.GetReportId(), CaseId: r.GetCaseId(), Sequence: 1, Source: "a", RequestId: "r", PayloadDigest: digest[:],
		Parts: r.Parts(), Plan: &pb.Plan{Copies: []*pb.Copy{{Member: "b"}}},
	}}})
	require.NoError(f, err)
	f.Add(data)
	data, err = proto.Marshal(&pb.ReportRecord{Record: &pb.ReportRecord_Extended{Extended: &pb.PlanExtended{ReportId: r.GetReportId(), ExtensionId: newID()}}})
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{})
	f.Add([]byte{0x4a, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, further, err := decoded(journal.Record{Seq: 1, Data: data})
		if err != nil {
			require.Nil(t, a)
			return
		}
		x, shelf := newIndex(), newPartShelf()
		if a == nil {
			x.extend(1, further) // of a report that is not there
			require.Empty(t, x.reports)
			return
		}
		require.Len(t, a.GetPayloadDigest(), sha256.Size)
		x.add(1, a)
		x.add(1, a)
		e, ok := x.report(a.GetReportId())
		require.True(t, ok)
		require.Equal(t, a.GetSource(), e.source)
		shelf.refer(a)
		for _, c := range a.GetPlan().GetCopies() {
			require.NotNil(t, copyFor(a.GetPlan(), c.GetMember()))
		}
	})
}
