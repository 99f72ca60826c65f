package node

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/anonymizer"
	"minato.example/internal/check"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// stricter is the stricter of a label and another that may be missing.
func stricter(l, other tlp.Label) tlp.Label {
	if !other.Valid() {
		return l
	}
	return tlp.Strictest(l, other)
}

// restrict joins restrictions: what one of them forbids is forbidden, and the
// earliest end holds. It is nil when there are none.
func restrict(all ...*pb.Restrictions) *pb.Restrictions {
	joined := new(pb.Restrictions)
	var texts []string
	for _, r := range all {
		joined.NoCopy = joined.NoCopy || r.GetNoCopy()
		joined.NoExport = joined.NoExport || r.GetNoExport()
		joined.NoDistribution = joined.NoDistribution || r.GetNoDistribution()
		joined.ChathamHouse = joined.ChathamHouse || r.GetChathamHouse()
		if end := r.GetExpireTime(); end != nil && (joined.ExpireTime == nil || end.AsTime().Before(joined.ExpireTime.AsTime())) {
			joined.ExpireTime = timestamppb.New(end.AsTime())
		}
		if r.GetText() != "" && !slices.Contains(texts, r.GetText()) {
			texts = append(texts, r.GetText())
		}
	}
	joined.Text = strings.Join(texts, "\n")
	if proto.Size(joined) == 0 {
		return nil
	}
	return joined
}

// expired reports whether restrictions have run out: the copy must not be
// shown any more.
func expired(r *pb.Restrictions, now time.Time) bool {
	return r.GetExpireTime() != nil && !now.Before(r.GetExpireTime().AsTime())
}

// secrecy is the duty that holds for something made of parts under two.
func secrecy(own, other pb.SecrecyRegime) pb.SecrecyRegime {
	if own <= pb.SecrecyRegime_SECRECY_REGIME_NONE && other > pb.SecrecyRegime_SECRECY_REGIME_NONE {
		return other
	}
	return own
}

// eventNames are the types of events as the official statistics list them.
var eventNames = map[pb.EventType]string{
	pb.EventType_EVENT_TYPE_NEAR_MISS: "予兆・ヒヤリハット", pb.EventType_EVENT_TYPE_LEAK: "情報の漏えい",
	pb.EventType_EVENT_TYPE_DESTRUCTION: "情報の破壊", pb.EventType_EVENT_TYPE_UNAVAILABLE: "システム等の利用困難",
	pb.EventType_EVENT_TYPE_MALWARE: "マルウェア等の感染", pb.EventType_EVENT_TYPE_CODE_EXEC: "不正コード等の実行",
	pb.EventType_EVENT_TYPE_INTRUSION: "システム等への侵入", pb.EventType_EVENT_TYPE_OTHER: "その他", pb.EventType_EVENT_TYPE_UNKNOWN: "不明",
}

// titleOf is the title of a report, or for a copy that lacks it one that says
// what kind of information it holds and of which event.
func titleOf(r *pb.Report) string {
	if r.GetTitle() != "" {
		return r.GetTitle()
	}
	what := "【事案の状況】"
	if (&pb.Report{AttackTechnical: r.GetAttackTechnical()}).Outline().Says(pb.Fact_FACT_TECHNIQUE) {
		what = "【攻撃技術情報】"
	}
	var names []string
	for _, t := range r.GetEvent().GetTypes() {
		if name, ok := eventNames[t]; ok {
			names = append(names, name)
		}
	}
	return what + strings.Join(names, "・")
}

// textOf is the summary of a report, or for a copy that lacks it the text of
// its technical part.
func textOf(r *pb.Report) string {
	if r.GetSummary() != "" {
		return r.GetSummary()
	}
	return r.GetAttackTechnical().GetText()
}

// itemOf is what the inbox shows of a delivery. report is nil while it is
// sealed to persons whose keys are not here; outline says then what may be
// shown.
func itemOf(d *pb.Delivery, report *pb.Report, outline *pb.Outline, parts []*pb.Part) *pb.InboxItem {
	c, h := d.GetCopy(), d.GetHandling()
	if report != nil {
		outline = report.Outline()
	}
	item := &pb.InboxItem{
		Report: d.GetReportId(), Case: outline.GetCaseId(), Seq: outline.GetSequence(), Stage: outline.GetStage(), Lane: d.GetLane(),
		Tlp:     stricter(check.Label(outline.GetTlp()), check.Label(h.GetTlp())).String(),
		Persons: c.GetPersons(), AcceptTime: d.GetAcceptTime(), Restrictions: restrict(outline.GetRestrictions(), h.GetRestrictions()),
		SecrecyRegime: secrecy(outline.GetSecrecyRegime(), h.GetSecrecyRegime()),
		Named:         c.GetNamed(), Tasks: c.GetTasks(), ForwardedBy: c.GetForwardedBy(),
		DerivedFrom: outline.GetDerivedFrom(), Parts: parts, Sealed: report == nil,
	}
	switch d.GetEnvelope().GetPayloadType() {
	case seal.CopyType(d.GetLane()), seal.SealedCopyType(d.GetLane()):
		item.HubSigned = true
	}
	if c.GetNamed() {
		item.Source, item.SourceName = d.GetSource(), d.GetSourceName()
	}
	if report == nil {
		switch {
		case outline.Says(pb.Fact_FACT_INCIDENT):
			item.Kind = pb.Kind_KIND_INCIDENT
		case outline.Says(pb.Fact_FACT_NOTICE):
			item.Kind = pb.Kind_KIND_NOTICE
		}
		return item
	}
	item.Kind, item.Title, item.Text = report.GetKind(), titleOf(report), textOf(report)
	// What every copy of this kind lacks; what this report has had is for its
	// source alone.
	if c.GetFlow() != pb.Flow_FLOW_UNSPECIFIED {
		item.Withheld, _ = anonymizer.Lacks(report, c.GetFlow())
	}
	return item
}

// present makes an item what a person may see now: under the label that is in
// force here, and without content once it has run out.
func present(item *pb.InboxItem, relabelled, narrowed tlp.Label, now time.Time) {
	label, _, _ := tlp.Parse(item.GetTlp())
	if relabelled.Valid() {
		label = relabelled
	}
	if label.Valid() {
		item.Tlp = stricter(label, narrowed).String()
	}
	item.Named = item.GetNamed() || item.GetSource() != "" // stored by an earlier version
	if expired(item.GetRestrictions(), now) {
		item.Title, item.Text, item.Parts = "", "", nil
	}
}
