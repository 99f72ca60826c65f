package check_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

var testLimits = check.Limits{Report: 1 << 20, Part: 1000, Parts: 1500}

// found is what check says of a report, as "field REASON".
func found(t testing.TB, r *pb.Report) []string {
	t.Helper()
	return told(t, check.Report(r, pb.Lane_LANE_LIVE, testLimits))
}

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

// firstReport is a first report with only what it must carry.
func firstReport(to ...string) *pb.Report {
	r := &pb.Report{
		ReportId: newID(), CaseId: newID(), Sequence: 1, Stage: pb.Stage_STAGE_PRELIMINARY, Lane: pb.Lane_LANE_LIVE,
		Kind: pb.Kind_KIND_INCIDENT, SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE,
		Reason: pb.Reason_REASON_VOLUNTARY, RouteChoice: pb.RouteChoice_ROUTE_CHOICE_DIRECT, Tlp: pb.TlpLabel_TLP_LABEL_AMBER,
		Reporter: &pb.Reporter{Organisation: "試験ターミナル", Contacts: testContacts()},
		Title:    "件名", Summary: "一文。",
		Occurred: &pb.Moment{Certainty: pb.Certainty_CERTAINTY_UNKNOWN}, Recognised: &pb.Moment{Certainty: pb.Certainty_CERTAINTY_UNKNOWN},
		Place:         &pb.Place{Certainty: pb.Certainty_CERTAINTY_UNKNOWN},
		Event:         &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_UNKNOWN}},
		Cause:         &pb.Cause{Class: pb.CauseClass_CAUSE_CLASS_UNKNOWN},
		Impact:        &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN},
		Spread:        &pb.Spread{Risk: pb.SpreadRisk_SPREAD_RISK_UNKNOWN},
		Recovery:      &pb.Recovery{State: pb.RecoveryState_RECOVERY_STATE_UNKNOWN},
		PersonalData:  pb.PersonalData_PERSONAL_DATA_UNKNOWN,
		CreateTime:    timestamppb.Now(),
		RetentionTime: timestamppb.New(time.Now().AddDate(1, 0, 0)),
	}
	for _, m := range to {
		r.Recipients = append(r.Recipients, &pb.Recipient{Member: m})
	}
	return r
}

func testContacts() []*pb.Contact {
	return []*pb.Contact{{Name: "港 一郎", Phone: "03-0000-0001"}, {Name: "波止 花子", Mail: "hanako@port.example"}}
}

func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
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

// walk calls visit for every message in a report, with its path as violations
// name it.
func walk(path string, m protoreflect.Message, visit func(path string, m protoreflect.Message)) {
	visit(path, m)
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if f.Kind() != protoreflect.MessageKind || !m.Has(f) {
			continue
		}
		if !f.IsList() {
			walk(join(path, f), m.Get(f).Message(), visit)
			continue
		}
		for n := range m.Get(f).List().Len() {
			walk(fmt.Sprintf("%s[%d]", join(path, f), n), m.Get(f).List().Get(n).Message(), visit)
		}
	}
}

func join(path string, f protoreflect.FieldDescriptor) string {
	return strings.TrimPrefix(path+"."+string(f.Name()), ".")
}

func TestTheMinimalFirstReportIsAccepted(t *testing.T) {
	require.Empty(t, found(t, firstReport("b")))
}

func TestAReportWithEveryFieldIsAccepted(t *testing.T) {
	require.Empty(t, found(t, fullReport()))
}

func TestEveryFieldOfAFirstReportIsMissedByName(t *testing.T) {
	fields := 0
	walk("", firstReport("b").ProtoReflect(), func(path string, m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			if !proto.GetExtension(f.Options(), pb.E_FirstReport).(bool) {
				continue
			}
			fields++
			r := firstReport("b")
			at(t, r, path).Clear(f)
			name := join(path, f)
			missing := false
			for _, v := range check.Report(r, pb.Lane_LANE_LIVE, testLimits) {
				missing = missing || v.Field == name && strings.HasSuffix(v.Reason, "_MISSING")
			}
			require.True(t, missing, "nothing is said about %s: %v", name, found(t, r))
		}
	})
	require.Equal(t, 31, fields, "fields that a first report must carry")
}

// at is the message at a path in a report.
func at(t *testing.T, r *pb.Report, path string) (m protoreflect.Message) {
	walk("", r.ProtoReflect(), func(p string, found protoreflect.Message) {
		if p == path {
			m = found
		}
	})
	require.NotNil(t, m, path)
	return m
}

func TestNothingOfAFirstReportButItsRequiredFieldsIsRequired(t *testing.T) {
	r := firstReport("b")
	walk("", r.ProtoReflect(), func(path string, m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			required := proto.GetExtension(f.Options(), pb.E_FirstReport).(bool)
			switch name := join(path, f); {
			case required, name == "recipients", strings.HasPrefix(name, "recipients["), strings.HasPrefix(name, "reporter.contacts["):
			case strings.HasSuffix(name, ".certainty"), strings.HasSuffix(name, "_time.seconds"), strings.HasSuffix(name, "_time.nanos"):
			default:
				t.Errorf("firstReport sets %s, which a first report need not have", name)
			}
			return true
		})
	})
}

func TestAnUnknownFieldIsRefusedWhereverItStands(t *testing.T) {
	messages := 0
	walk("", fullReport().ProtoReflect(), func(path string, _ protoreflect.Message) {
		messages++
		r := fullReport()
		at(t, r, path).SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
		if path == "" {
			path = "report"
		}
		require.Contains(t, found(t, r), path+" UNKNOWN_FIELD")
	})
	require.Greater(t, messages, 30)
}

func TestAnUnknownEnumNumberIsRefusedWhereverItStands(t *testing.T) {
	enums := 0
	walk("", fullReport().ProtoReflect(), func(path string, m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			if f.Kind() != protoreflect.EnumKind {
				continue
			}
			for _, number := range []protoreflect.EnumNumber{9999, 256, 257, -1} {
				enums++
				r, name := fullReport(), join(path, f)
				if f.IsList() {
					at(t, r, path).Mutable(f).List().Set(0, protoreflect.ValueOfEnum(number))
					name += "[0]"
				} else {
					at(t, r, path).Set(f, protoreflect.ValueOfEnum(number))
				}
				require.Contains(t, found(t, r), name+" VALUE_UNKNOWN", "%d", number)
			}
		}
	})
	require.Greater(t, enums, 100)
}

func TestEveryTextIsBoundedAndCarriesNoNUL(t *testing.T) {
	texts := 0
	walk("", fullReport().ProtoReflect(), func(path string, m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			if f.Kind() != protoreflect.StringKind {
				continue
			}
			texts++
			for bad, reason := range map[string]string{"a\x00b": "TEXT_INVALID", strings.Repeat("x", 256<<10+1): "TEXT_TOO_LONG"} {
				r, name := fullReport(), join(path, f)
				if f.IsList() {
					at(t, r, path).Mutable(f).List().Set(0, protoreflect.ValueOfString(bad))
					name += "[0]"
				} else {
					at(t, r, path).Set(f, protoreflect.ValueOfString(bad))
				}
				require.Contains(t, found(t, r), name+" "+reason)
			}
		}
	})
	require.Greater(t, texts, 50)
}

// bound is a limit of the contract: n is accepted, n+1 is not.
type bound struct {
	field, reason string
	limit         int
	set           func(r *pb.Report, n int)
}

func text(n int) string { return strings.Repeat("x", n) }

func listOf[T any](n int, one func(i int) T) (all []T) {
	for i := range n {
		all = append(all, one(i))
	}
	return all
}

func part(i, size int) *pb.Part {
	digest := sha256.Sum256(fmt.Append(nil, i))
	return &pb.Part{Digest: digest[:], Size: uint64(size), Name: "log.txt", Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}
}

func indicator(value string) *pb.Indicator {
	return &pb.Indicator{Type: pb.IndicatorType_INDICATOR_TYPE_DOMAIN, Value: value}
}

// bounds restates the contract, independently of textLimit and listLimit.
var bounds = []bound{
	{"title", "TEXT_TOO_LONG", 300, func(r *pb.Report, n int) { r.Title = text(n) }},
	{"summary", "TEXT_TOO_LONG", 256 << 10, func(r *pb.Report, n int) { r.Summary = text(n) }},
	{"response", "TEXT_TOO_LONG", 256 << 10, func(r *pb.Report, n int) { r.Response = text(n) }},
	{"others_response", "TEXT_TOO_LONG", 256 << 10, func(r *pb.Report, n int) { r.OthersResponse = text(n) }},
	{"reporter.organisation", "TEXT_TOO_LONG", 200, func(r *pb.Report, n int) { r.Reporter.Organisation = text(n) }},
	{"reporter.unit", "TEXT_TOO_LONG", 200, func(r *pb.Report, n int) { r.Reporter.Unit = text(n) }},
	{"reporter.contacts[1].name", "TEXT_TOO_LONG", 200, func(r *pb.Report, n int) { r.Reporter.Contacts[1].Name = text(n) }},
	{"restrictions.text", "TEXT_TOO_LONG", 1000, func(r *pb.Report, n int) { r.Restrictions = &pb.Restrictions{Text: text(n)} }},
	{"legal_basis[0].law_id", "TEXT_TOO_LONG", 64, func(r *pb.Report, n int) { r.LegalBasis = []*pb.LegalBasis{{LawId: text(n)}} }},
	{"legal_basis[0].article", "TEXT_TOO_LONG", 64, func(r *pb.Report, n int) { r.LegalBasis = []*pb.LegalBasis{{Article: text(n)}} }},
	{"legal_basis[0].form_id", "TEXT_TOO_LONG", 64, func(r *pb.Report, n int) { r.LegalBasis = []*pb.LegalBasis{{FormId: text(n)}} }},
	{"recipients[0].member", "TEXT_TOO_LONG", 64, func(r *pb.Report, n int) { r.Recipients[0].Member = text(n) }},
	{"attack_technical.indicators[0].value", "TEXT_TOO_LONG", 2048, func(r *pb.Report, n int) {
		r.AttackTechnical = &pb.AttackTechnical{Indicators: []*pb.Indicator{indicator(text(n))}}
	}},
	{"attack_technical.indicators[0].description", "TEXT_TOO_LONG", 1000, func(r *pb.Report, n int) {
		r.AttackTechnical = &pb.AttackTechnical{Indicators: []*pb.Indicator{indicator("port.example")}}
		r.AttackTechnical.Indicators[0].Description = text(n)
	}},
	{"response_timeline[0].text", "TEXT_TOO_LONG", 2000, func(r *pb.Report, n int) { r.ResponseTimeline = []*pb.TimelineEntry{{Text: text(n)}} }},
	{"attachments[0].name", "TEXT_TOO_LONG", 255, func(r *pb.Report, n int) {
		r.Attachments = []*pb.Part{part(0, 1)}
		r.Attachments[0].Name = text(n)
	}},
	{"attachments[0].media_type", "TEXT_TOO_LONG", 100, func(r *pb.Report, n int) {
		r.Attachments = []*pb.Part{part(0, 1)}
		r.Attachments[0].MediaType = text(n)
	}},
	{"recipients", "TOO_MANY", 1000, func(r *pb.Report, n int) {
		r.Recipients = listOf(n, func(i int) *pb.Recipient { return &pb.Recipient{Member: fmt.Sprint("m", i)} })
	}},
	{"legal_basis", "TOO_MANY", 20, func(r *pb.Report, n int) {
		r.LegalBasis = listOf(n, func(int) *pb.LegalBasis { return &pb.LegalBasis{LawId: "x"} })
	}},
	{"onward_permissions", "TOO_MANY", 50, func(r *pb.Report, n int) {
		r.OnwardPermissions = listOf(n, func(int) *pb.OnwardPermission { return &pb.OnwardPermission{By: "x", To: "y"} })
	}},
	{"derived_from", "TOO_MANY", 50, func(r *pb.Report, n int) { r.DerivedFrom = listOf(n, func(int) string { return newID() }) }},
	{"parallel_notices", "TOO_MANY", 50, func(r *pb.Report, n int) {
		r.ParallelNotices = listOf(n, func(int) *pb.ParallelNotice { return &pb.ParallelNotice{Role: "police"} })
	}},
	{"reporter.contacts", "TOO_MANY", 20, func(r *pb.Report, n int) {
		r.Reporter.Contacts = listOf(n, func(int) *pb.Contact { return testContacts()[0] })
	}},
	{"affected_systems", "TOO_MANY", 100, func(r *pb.Report, n int) {
		r.AffectedSystems = listOf(n, func(int) *pb.AffectedSystem { return &pb.AffectedSystem{Kind: pb.SystemKind_SYSTEM_KIND_TOS} })
	}},
	{"attack_technical.indicators", "TOO_MANY", 5000, func(r *pb.Report, n int) {
		r.AttackTechnical = &pb.AttackTechnical{Indicators: listOf(n, func(i int) *pb.Indicator { return indicator(fmt.Sprint(i)) })}
	}},
	{"attack_timeline", "TOO_MANY", 500, func(r *pb.Report, n int) {
		r.AttackTimeline = listOf(n, func(int) *pb.TimelineEntry { return &pb.TimelineEntry{Text: "x"} })
	}},
	{"response_timeline", "TOO_MANY", 500, func(r *pb.Report, n int) {
		r.ResponseTimeline = listOf(n, func(int) *pb.TimelineEntry { return &pb.TimelineEntry{Text: "x"} })
	}},
	{"attachments", "TOO_MANY", 64, func(r *pb.Report, n int) {
		r.Attachments = listOf(n, func(i int) *pb.Part { return part(i, 1) })
	}},
	{"attachments[0]", "PART_TOO_LARGE", 1000, func(r *pb.Report, n int) { r.Attachments = []*pb.Part{part(0, n)} }},
	{"attachments", "PARTS_TOO_LARGE", 1500, func(r *pb.Report, n int) { r.Attachments = []*pb.Part{part(0, 1000), part(1, n-1000)} }},
	{"classification", "LEVEL_UNKNOWN", 3, func(r *pb.Report, n int) { r.Classification = &pb.Classification{Integrity: uint32(n)} }},
	{"report", "REPORT_TOO_LARGE", 1 << 20, func(r *pb.Report, n int) {
		for _, field := range []*string{&r.Summary, &r.Response, &r.OthersResponse} {
			*field = text(256 << 10)
		}
		r.Spread.Text = text(200 << 10)
		r.AttackTechnical = &pb.AttackTechnical{Text: text(n - proto.Size(r) - 16)}
		r.AttackTechnical.Text += text(n - proto.Size(r))
	}},
}

func TestEveryBoundHoldsToTheByteAndEntry(t *testing.T) {
	for _, b := range bounds {
		r := firstReport("b")
		b.set(r, b.limit)
		require.Empty(t, found(t, r), "%s at %d", b.field, b.limit)
		r = firstReport("b")
		b.set(r, b.limit+1)
		require.Equal(t, []string{b.field + " " + b.reason}, found(t, r), "%s at %d", b.field, b.limit+1)
	}
}

func TestTextsAreMeasuredInBytes(t *testing.T) {
	r := firstReport("b")
	r.Title = strings.Repeat("港", 100)
	require.Empty(t, found(t, r))
	r.Title += "港"
	require.Equal(t, []string{"title TEXT_TOO_LONG"}, found(t, r))
}

func TestEachRuleIsBrokenByItself(t *testing.T) {
	red := func(r *pb.Report, to ...*pb.Recipient) { r.Tlp, r.Recipients = pb.TlpLabel_TLP_LABEL_RED, to }
	hour := func(n int) *timestamppb.Timestamp {
		return timestamppb.New(time.Now().Add(time.Duration(n) * time.Hour))
	}
	for _, c := range []struct {
		want  string
		broke func(r *pb.Report)
	}{
		{"report_id ID_INVALID", func(r *pb.Report) { r.ReportId = r.ReportId[:31] }},
		{"report_id ID_INVALID", func(r *pb.Report) { r.ReportId = strings.Repeat("A", 32) }},
		{"report_id ID_INVALID", func(r *pb.Report) { r.ReportId = strings.Repeat("g", 32) }},
		{"case_id ID_INVALID", func(r *pb.Report) { r.CaseId += "00" }},
		{"lane LANE_MISMATCH", func(r *pb.Report) { r.Lane = pb.Lane_LANE_EXERCISE }},
		{"stage STAGE_MISMATCH", func(r *pb.Report) { r.Sequence = 2 }},
		{"stage STAGE_MISMATCH", func(r *pb.Report) { r.Stage = pb.Stage_STAGE_FOLLOW_UP }},
		{"stage STAGE_MISMATCH", func(r *pb.Report) { r.Stage = pb.Stage_STAGE_CORRECTION }},
		{"stage STAGE_MISMATCH", func(r *pb.Report) { r.Stage = pb.Stage_STAGE_WITHDRAWAL }},
		{"legal_basis LEGAL_BASIS_MISSING", func(r *pb.Report) { r.Reason = pb.Reason_REASON_LEGAL_DUTY }},
		{"route_choice ROUTE_NOT_OFFERED", func(r *pb.Report) { r.RouteChoice = pb.RouteChoice_ROUTE_CHOICE_SECRETARIAT_ANON }},
		{"route_choice ROUTE_NOT_OFFERED", func(r *pb.Report) { r.RouteChoice = pb.RouteChoice_ROUTE_CHOICE_SECRETARIAT_NAMED }},
		{"community_id GREEN_NEEDS_COMMUNITY", func(r *pb.Report) { r.Tlp = pb.TlpLabel_TLP_LABEL_GREEN }},
		{"community_id COMMUNITY_ONLY_FOR_GREEN", func(r *pb.Report) { r.CommunityId = "operators" }},
		{"community_id COMMUNITY_ONLY_FOR_GREEN", func(r *pb.Report) {
			r.Tlp, r.Recipients, r.CommunityId = pb.TlpLabel_TLP_LABEL_CLEAR, nil, "operators"
		}},
		{"recipients RECIPIENTS_MISSING", func(r *pb.Report) { red(r) }},
		{"recipients[0].member FIELD_MISSING", func(r *pb.Report) { r.Recipients[0].Member = "" }},
		{"recipients[0] RED_NEEDS_PERSONS", func(r *pb.Report) { red(r, &pb.Recipient{Member: "b"}) }},
		{"recipients[1] RED_NEEDS_PERSONS", func(r *pb.Report) {
			red(r, &pb.Recipient{Member: "b", Person: "ciso"}, &pb.Recipient{Member: "b"})
		}},
		{"recipients[0] PERSONS_ONLY_FOR_RED", func(r *pb.Report) { r.Recipients[0].Person = "ciso" }},
		{"recipients[0] PERSONS_ONLY_FOR_RED", func(r *pb.Report) {
			r.Tlp, r.Recipients[0].Person = pb.TlpLabel_TLP_LABEL_CLEAR, "ciso"
		}},
		{"recipients[1] RECIPIENT_TWICE", func(r *pb.Report) { r.Recipients = append(r.Recipients, &pb.Recipient{Member: "b"}) }},
		{"recipients[1] RECIPIENT_TWICE", func(r *pb.Report) {
			red(r, &pb.Recipient{Member: "b", Person: "ciso"}, &pb.Recipient{Member: "b", Person: "ciso"})
		}},
		{"reporter.contacts CONTACTS_TOO_FEW", func(r *pb.Report) { r.Reporter.Contacts = r.Reporter.Contacts[:1] }},
		{"reporter.contacts[0] CONTACT_INCOMPLETE", func(r *pb.Report) { r.Reporter.Contacts[0].Name = "" }},
		{"reporter.contacts[1] CONTACT_INCOMPLETE", func(r *pb.Report) { r.Reporter.Contacts[1].Mail = "" }},
		{"occurred TIME_MISSING", func(r *pb.Report) { r.Occurred.Certainty = pb.Certainty_CERTAINTY_CONFIRMED }},
		{"recognised TIME_MISSING", func(r *pb.Report) { r.Recognised = &pb.Moment{} }},
		{"occurred.time TIME_INVALID", func(r *pb.Report) { r.Occurred.Time = &timestamppb.Timestamp{Nanos: -1} }},
		{"next_report_time TIME_INVALID", func(r *pb.Report) { r.NextReportTime = &timestamppb.Timestamp{Seconds: 1 << 40} }},
		{"retention_time RETENTION_PAST", func(r *pb.Report) { r.RetentionTime = r.CreateTime }},
		{"restrictions.expire_time EXPIRY_PAST", func(r *pb.Report) { r.Restrictions = &pb.Restrictions{ExpireTime: hour(-1)} }},
		{"event.types[0] VALUE_UNKNOWN", func(r *pb.Report) { r.Event.Types[0] = 0 }},
		{"cause.types[0] VALUE_UNKNOWN", func(r *pb.Report) { r.Cause.Types = []pb.CauseType{0} }},
		{"affected_systems[0].kind FIELD_MISSING", func(r *pb.Report) { r.AffectedSystems = []*pb.AffectedSystem{{Product: "x"}} }},
		{"attack_technical.indicators[0].type FIELD_MISSING", func(r *pb.Report) {
			r.AttackTechnical = &pb.AttackTechnical{Indicators: []*pb.Indicator{{Value: "port.example"}}}
		}},
		{"attack_technical.indicators[0].value FIELD_MISSING", func(r *pb.Report) {
			r.AttackTechnical = &pb.AttackTechnical{Indicators: []*pb.Indicator{indicator("")}}
		}},
		{"attachments[0].digest DIGEST_INVALID", func(r *pb.Report) {
			r.Attachments = []*pb.Part{part(0, 1)}
			r.Attachments[0].Digest = r.Attachments[0].Digest[:31]
		}},
		{"attachments[0] PART_EMPTY", func(r *pb.Report) { r.Attachments = []*pb.Part{part(0, 0)} }},
		{"attachments[0].class FIELD_MISSING", func(r *pb.Report) {
			r.Attachments = []*pb.Part{part(0, 1)}
			r.Attachments[0].Class = 0
		}},
		{"attachments[0].name NAME_INVALID", func(r *pb.Report) {
			r.Attachments = []*pb.Part{part(0, 1)}
			r.Attachments[0].Name = "../log.txt"
		}},
		{"attachments[0].name NAME_INVALID", func(r *pb.Report) {
			r.Attachments = []*pb.Part{part(0, 1)}
			r.Attachments[0].Name = `C:\log.txt`
		}},
		{"derived_from[1] ID_INVALID", func(r *pb.Report) { r.DerivedFrom = []string{newID(), "x"} }},
		{"relabels ID_INVALID", func(r *pb.Report) { r.Relabels = "x" }},
		{"relabels ID_INVALID", func(r *pb.Report) { r.Relabels = r.ReportId }},
		{"onward_permissions[0] PERMISSION_INCOMPLETE", func(r *pb.Report) { r.OnwardPermissions = []*pb.OnwardPermission{{By: "ministry"}} }},
		{"onward_permissions[0] PERMISSION_INCOMPLETE", func(r *pb.Report) { r.OnwardPermissions = []*pb.OnwardPermission{{To: "ministry"}} }},
		{"attachments PART_TWICE", func(r *pb.Report) {
			r.AttackTechnical = &pb.AttackTechnical{StixBundle: part(0, 1)}
			r.Attachments = []*pb.Part{part(0, 1)}
		}},
	} {
		r := firstReport("b")
		c.broke(r)
		require.Equal(t, []string{c.want}, found(t, r))
	}
}

func TestWhatTheRulesAllowIsAccepted(t *testing.T) {
	for name, change := range map[string]func(r *pb.Report){
		"RED to two persons of one member": func(r *pb.Report) {
			r.Tlp, r.Recipients = pb.TlpLabel_TLP_LABEL_RED, []*pb.Recipient{{Member: "b", Person: "ciso"}, {Member: "b", Person: "desk"}}
		},
		"GREEN to a community":         func(r *pb.Report) { r.Tlp, r.CommunityId, r.Recipients = pb.TlpLabel_TLP_LABEL_GREEN, "ops", nil },
		"AMBER to whom the rules name": func(r *pb.Report) { r.Recipients = nil },
		"CLEAR to everybody":           func(r *pb.Report) { r.Tlp, r.Recipients = pb.TlpLabel_TLP_LABEL_CLEAR, nil },
		"a first and last report":      func(r *pb.Report) { r.Stage = pb.Stage_STAGE_FINAL },
		"a final third report":         func(r *pb.Report) { r.Stage, r.Sequence = pb.Stage_STAGE_FINAL, 3 },
		"a follow-up":                  func(r *pb.Report) { r.Stage, r.Sequence = pb.Stage_STAGE_FOLLOW_UP, 2 },
		"a legal duty with its law": func(r *pb.Report) {
			r.Reason, r.LegalBasis = pb.Reason_REASON_LEGAL_DUTY, []*pb.LegalBasis{{LawId: "x"}}
		},
	} {
		r := firstReport("b")
		change(r)
		require.Empty(t, found(t, r), name)
	}
}

func TestEverythingWrongIsToldAtOnceAndAlwaysInTheSameOrder(t *testing.T) {
	broken := func() *pb.Report {
		r := firstReport("b", "b", "c")
		r.ReportId, r.Title, r.Summary, r.Stage, r.Lane = "x", "", "a\x00", pb.Stage_STAGE_FOLLOW_UP, pb.Lane_LANE_EXERCISE
		r.Reason, r.RouteChoice, r.CommunityId = pb.Reason_REASON_LEGAL_DUTY, pb.RouteChoice_ROUTE_CHOICE_SECRETARIAT_ANON, "ops"
		r.Reporter.Contacts, r.Occurred, r.RetentionTime = r.Reporter.Contacts[:1], &pb.Moment{}, r.CreateTime
		r.Event.Types, r.Impact.Business = []pb.EventType{99}, 77
		r.Attachments = []*pb.Part{part(1, 0), part(1, 2000)}
		r.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
		return r
	}
	want := []string{
		"report UNKNOWN_FIELD", "title TITLE_MISSING", "summary TEXT_INVALID", "event.types[0] VALUE_UNKNOWN", "impact.business VALUE_UNKNOWN",
		"community_id COMMUNITY_ONLY_FOR_GREEN", "recipients[1] RECIPIENT_TWICE", "report_id ID_INVALID", "lane LANE_MISMATCH", "stage STAGE_MISMATCH",
		"legal_basis LEGAL_BASIS_MISSING", "route_choice ROUTE_NOT_OFFERED", "retention_time RETENTION_PAST", "reporter.contacts CONTACTS_TOO_FEW",
		"occurred TIME_MISSING", "attachments[0] PART_EMPTY", "attachments[1] PART_TOO_LARGE", "attachments PART_TWICE", "attachments PARTS_TOO_LARGE",
	}
	for range 20 {
		require.Equal(t, want, found(t, broken()))
	}
}

func FuzzCheck(f *testing.F) {
	for _, r := range []*pb.Report{firstReport("b"), fullReport(), {}} {
		data, err := proto.Marshal(r)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := new(pb.Report)
		if proto.Unmarshal(data, r) != nil {
			return
		}
		bad := check.Report(r, pb.Lane_LANE_LIVE, testLimits)
		again := check.Report(r, pb.Lane_LANE_LIVE, testLimits)
		require.Equal(t, bad, again)
		if len(bad) > 0 {
			told(t, bad)
			return
		}
		label := tlp.Label(r.GetTlp())
		require.True(t, r.GetTlp() >= 1 && r.GetTlp() <= 5, "label %d", r.GetTlp())
		require.Equal(t, pb.Lane_LANE_LIVE, r.GetLane())
		require.Equal(t, label == tlp.Green, r.GetCommunityId() != "")
		require.False(t, label == tlp.Red && len(r.GetRecipients()) == 0)
		for _, to := range r.GetRecipients() {
			require.Equal(t, label == tlp.Red, to.GetPerson() != "")
		}
		require.NotZero(t, r.GetKind())
		require.NotZero(t, r.GetSecrecyRegime())
		require.LessOrEqual(t, proto.Size(r), 1<<20)
		require.Empty(t, check.Outline(r.Outline(), pb.Lane_LANE_LIVE), "the outline of a sound report is sound")
	})
}
