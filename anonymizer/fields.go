package anonymizer

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
)

// Flows are the flows that get a projection, in the order of the columns of the
// table below. FLOW_AUTHORITY gets the report itself.
var Flows = []pb.Flow{
	pb.Flow_FLOW_PEER, pb.Flow_FLOW_EXPERT, pb.Flow_FLOW_EXPERT_NDA,
	pb.Flow_FLOW_ANONYMOUS, pb.Flow_FLOW_PUBLIC, pb.Flow_FLOW_STATUS,
}

// fields has a verdict for every field that can be reached from a report, for
// every flow that gets a projection. Project builds its copy from this table
// and from nothing else: what has no row does not travel.
//
//	keep       goes as it is; a message goes with those of its fields that go
//	-          is withheld
//	part       a message that goes without some of its fields, or with coarser
//	           ones: the copy calls it generalised as a whole
//	day        a time is cut to the day in Japan (banded)
//	clean      a text goes without ids and addresses that lead to the victim
//	notice     goes when the report is a notice: its title and summary warn, they
//	           tell of no victim
//	named      goes when the source consents that peers see its name
//	damage     goes when the source consents that peers see damage and response
//	advised    goes when the source consents that experts have it: stands for
//	           「専門機関への相談等を踏まえて共有」 of the guideline
//	sanitised  goes when the source has removed hidden data from the part
//
// "a+b" asks for both, "a|b" takes the first that holds. A value goes together
// with its certainty, since without it it reads as more than it is.
const fields = `
                                         PEER          EXPERT  EXPERT_NDA  ANONYMOUS  PUBLIC  STATUS
report_id                                keep          keep    keep        keep       keep    keep
case_id                                  keep          keep    keep        keep       keep    keep
sequence                                 keep          keep    keep        keep       keep    keep
stage                                    keep          keep    keep        keep       keep    keep
lane                                     keep          keep    keep        keep       keep    keep
reason                                   -             -       -           keep       -       -
legal_basis                              -             -       -           -          -       -
legal_basis.law_id                       -             -       -           -          -       -
legal_basis.article                      -             -       -           -          -       -
legal_basis.addressee_role               -             -       -           -          -       -
legal_basis.preliminary_due_time         -             -       -           -          -       -
legal_basis.detailed_due_time            -             -       -           -          -       -
legal_basis.form_id                      -             -       -           -          -       -
route_choice                             -             -       -           -          -       -
tlp                                      keep          keep    keep        keep       keep    keep
community_id                             keep          keep    keep        keep       keep    keep
restrictions                             keep          keep    keep        keep       keep    keep
restrictions.no_copy                     keep          keep    keep        keep       keep    keep
restrictions.no_export                   keep          keep    keep        keep       keep    keep
restrictions.no_distribution             keep          keep    keep        keep       keep    keep
restrictions.chatham_house               keep          keep    keep        keep       keep    keep
restrictions.expire_time                 keep          keep    keep        keep       keep    keep
restrictions.text                        keep          keep    keep        keep       keep    keep
onward_permissions                       keep          keep    keep        keep       keep    keep
onward_permissions.by                    keep          keep    keep        keep       keep    keep
onward_permissions.to                    keep          keep    keep        keep       keep    keep
classification                           keep          keep    keep        keep       keep    keep
classification.confidentiality           keep          keep    keep        keep       keep    keep
classification.integrity                 keep          keep    keep        keep       keep    keep
classification.availability              keep          keep    keep        keep       keep    keep
recipients                               -             -       -           -          -       -
recipients.member                        -             -       -           -          -       -
recipients.person                        -             -       -           -          -       -
reporter                                 named         -       keep        -          keep    -
reporter.organisation                    named         -       keep        -          keep    -
reporter.unit                            named         -       keep        -          -       -
reporter.contacts                        named         -       keep        -          -       -
reporter.contacts.name                   named         -       keep        -          -       -
reporter.contacts.phone                  named         -       keep        -          -       -
reporter.contacts.mail                   named         -       keep        -          -       -
reporter.contacts.around_the_clock       named         -       keep        -          -       -
title                                    notice|damage notice  keep        notice     keep    notice
summary                                  notice|damage notice  keep        notice     keep    notice
occurred                                 part          keep    keep        part       keep    -
occurred.time                            day           keep    keep        day        keep    -
occurred.precision                       day           keep    keep        day        keep    -
occurred.certainty                       keep          keep    keep        keep       keep    -
recognised                               part          keep    keep        part       keep    -
recognised.time                          day           keep    keep        day        keep    -
recognised.precision                     day           keep    keep        day        keep    -
recognised.certainty                     keep          keep    keep        keep       keep    -
place                                    named+damage  -       keep        -          keep    -
place.port                               named+damage  -       keep        -          keep    -
place.terminal                           named+damage  -       keep        -          keep    -
place.certainty                          named+damage  -       keep        -          keep    -
information_source                       -             keep    keep        -          -       -
event                                    keep          keep    keep        keep       keep    -
event.types                              keep          keep    keep        keep       keep    -
event.certainty                          keep          keep    keep        keep       keep    -
cause                                    keep          keep    keep        keep       keep    -
cause.class                              keep          keep    keep        keep       keep    -
cause.types                              keep          keep    keep        keep       keep    -
cause.certainty                          keep          keep    keep        keep       keep    -
impact                                   damage        -       keep        part       keep    keep
impact.business                          damage        -       keep        keep       keep    keep
impact.affected_services                 damage        -       keep        -          keep    keep
impact.users_effect                      damage        -       keep        -          keep    keep
impact.certainty                         damage        -       keep        keep       keep    keep
spread                                   keep          keep    keep        keep       keep    -
spread.risk                              keep          keep    keep        keep       keep    -
spread.text                              -             keep    keep        -          keep    -
spread.certainty                         keep          keep    keep        keep       keep    -
affected_systems                         part          keep    keep        part       keep    -
affected_systems.kind                    keep          keep    keep        keep       keep    -
affected_systems.product                 -             keep    keep        -          keep    -
affected_systems.version                 -             keep    keep        -          keep    -
affected_systems.is_designated_computer  -             keep    keep        -          -       -
affected_systems.certainty               keep          keep    keep        keep       keep    -
attack_technical                         keep          keep    keep        keep       keep    -
attack_technical.malware                 keep          keep    keep        keep       -       -
attack_technical.techniques              keep          keep    keep        keep       -       -
attack_technical.vulnerabilities         advised       keep    keep        keep       keep    -
attack_technical.tools                   keep          keep    keep        keep       -       -
attack_technical.indicators              keep          keep    keep        keep       -       -
attack_technical.indicators.type         keep          keep    keep        keep       -       -
attack_technical.indicators.value        keep          keep    keep        keep       -       -
attack_technical.indicators.description  keep          keep    keep        keep       -       -
attack_technical.indicators.certainty    keep          keep    keep        keep       -       -
attack_technical.ransom                  keep          keep    keep        keep       -       -
attack_technical.ransom.note             clean         clean   keep        clean      -       -
attack_technical.ransom.extension        keep          keep    keep        keep       -       -
attack_technical.ransom.family           keep          keep    keep        keep       -       -
attack_technical.ransom.intrusion_path   keep          keep    keep        keep       -       -
attack_technical.ddos                    keep          keep    keep        keep       -       -
attack_technical.ddos.vector             keep          keep    keep        keep       -       -
attack_technical.ddos.volume_bps         keep          keep    keep        keep       -       -
attack_technical.ddos.duration_seconds   keep          keep    keep        keep       -       -
attack_technical.stix_bundle             part          part    part        part       -       -
attack_technical.stix_bundle.digest      keep          keep    keep        keep       -       -
attack_technical.stix_bundle.size        keep          keep    keep        keep       -       -
attack_technical.stix_bundle.media_type  keep          keep    keep        keep       -       -
attack_technical.stix_bundle.name        -             -       -           -          -       -
attack_technical.stix_bundle.class       keep          keep    keep        keep       -       -
attack_technical.stix_bundle.sanitised   keep          keep    keep        keep       -       -
attack_technical.text                    keep          keep    keep        keep       -       -
attack_technical.certainty               keep          keep    keep        keep       keep    -
attack_timeline                          part          keep    keep        part       keep    -
attack_timeline.moment                   part          keep    keep        part       keep    -
attack_timeline.moment.time              day           keep    keep        day        keep    -
attack_timeline.moment.precision         day           keep    keep        day        keep    -
attack_timeline.moment.certainty         keep          keep    keep        keep       keep    -
attack_timeline.text                     keep          keep    keep        keep       keep    -
response_timeline                        damage        -       keep        -          keep    -
response_timeline.moment                 damage        -       keep        -          keep    -
response_timeline.moment.time            damage        -       keep        -          keep    -
response_timeline.moment.precision       damage        -       keep        -          keep    -
response_timeline.moment.certainty       damage        -       keep        -          keep    -
response_timeline.text                   damage        -       keep        -          keep    -
response                                 damage        -       keep        -          keep    -
others_response                          damage        -       keep        -          keep    -
recovery                                 damage        -       keep        -          keep    keep
recovery.state                           damage        -       keep        -          keep    keep
recovery.expected                        damage        -       keep        -          keep    keep
recovery.expected.time                   damage        -       keep        -          keep    keep
recovery.expected.precision              damage        -       keep        -          keep    keep
recovery.expected.certainty              damage        -       keep        -          keep    keep
recovery.earlier_estimates               damage        -       keep        -          keep    -
recovery.earlier_estimates.time          damage        -       keep        -          keep    -
recovery.earlier_estimates.precision     damage        -       keep        -          keep    -
recovery.earlier_estimates.certainty     damage        -       keep        -          keep    -
recovery.certainty                       damage        -       keep        -          keep    keep
personal_data                            damage        -       keep        -          keep    -
parallel_notices                         damage        -       keep        -          -       -
parallel_notices.role                    damage        -       keep        -          -       -
parallel_notices.state                   damage        -       keep        -          -       -
parallel_notices.notice_time             damage        -       keep        -          -       -
parallel_notices.by                      named+damage  -       keep        -          -       -
parallel_notices.reference               damage        -       keep        -          -       -
publication                              damage        -       keep        -          keep    -
publication.state                        damage        -       keep        -          keep    -
publication.publish_time                 damage        -       keep        -          keep    -
publication.url                          named+damage  -       keep        -          keep    -
consents                                 keep          -       -           -          -       -
consents.cabinet_share                   -             -       -           -          -       -
consents.expert_share                    keep          -       -           -          -       -
consents.peer_named                      keep          -       -           -          -       -
consents.peer_damage                     keep          -       -           -          -       -
next_report_time                         keep          keep    keep        keep       keep    keep
attachments                              keep          keep    keep        keep       keep    -
attachments.digest                       keep          keep    keep        keep       keep    -
attachments.size                         keep          keep    keep        keep       keep    -
attachments.media_type                   keep          keep    keep        keep       keep    -
attachments.name                         named         -       keep        -          -       -
attachments.class                        keep          keep    keep        keep       keep    -
attachments.sanitised                    keep          keep    keep        keep       keep    -
retention_time                           keep          keep    keep        keep       keep    keep
create_time                              keep          keep    keep        day        keep    keep
kind                                     keep          keep    keep        keep       keep    keep
secrecy_regime                           keep          keep    keep        keep       keep    keep
derived_from                             -             -       -           -          -       -
relabels                                 -             -       -           -          -       -
`

// parts has a verdict for each class of an attachment. A class without a row
// does not travel. A malware sample cannot be sanitised, so experts get what is
// 攻撃技術情報 as it is.
const parts = `
           PEER                    EXPERT     EXPERT_NDA  ANONYMOUS  PUBLIC     STATUS
TECHNIQUE  sanitised               keep       keep        sanitised  -          -
CONTEXT    -                       sanitised  keep        -          sanitised  -
DAMAGE     damage+sanitised        -          keep        -          sanitised  -
IDENTITY   named+damage+sanitised  -          keep        -          -          -
`

// bundles says what a STIX bundle may hold beside 攻撃技術情報, as the fields of
// stix.Projection. Vulnerabilities follow attack_technical.vulnerabilities.
const bundles = `
            PEER  EXPERT  EXPERT_NDA  ANONYMOUS  PUBLIC  STATUS
file_names  -     keep    keep        -          -       -
victim      -     -       keep        -          -       -
`

// form is how a field goes.
type form uint8

const (
	whole form = iota
	inPart
	toTheDay
	withoutIDs
)

// condition is what a report or a part must be for a field to go.
type condition uint8

const (
	isNotice condition = 1 << iota
	peerNamed
	peerDamage
	expertShare
	isSanitised
)

// verdict is what the table says in one place: the first grant whose conditions
// all hold. Without one the field is withheld.
type verdict []grant

type grant struct {
	as    form
	needs condition
}

// of finds the form in which a field goes when the conditions hold.
func (v verdict) of(holds condition) (form, bool) {
	for _, g := range v {
		if g.needs&^holds == 0 {
			return g.as, true
		}
	}
	return 0, false
}

// conditions are those that a report fulfils by itself.
func conditions(r *pb.Report) (holds condition) {
	for _, c := range []struct {
		condition condition
		holds     bool
	}{
		{isNotice, r.GetKind() == pb.Kind_KIND_NOTICE},
		{peerNamed, r.GetConsents().GetPeerNamed()},
		{peerDamage, r.GetConsents().GetPeerDamage()},
		{expertShare, r.GetConsents().GetExpertShare()},
	} {
		if c.holds {
			holds |= c.condition
		}
	}
	return holds
}

// row is the verdicts of one row by flow.
type row map[pb.Flow]verdict

var (
	fieldRows  = read(fields)
	partRows   = read(parts)
	bundleRows = read(bundles)

	// plan is the table along the fields of a report.
	plan = along((&pb.Report{}).ProtoReflect().Descriptor(), "")
)

// read reads a table whose first line names the columns. It panics on a table
// that is not well-formed: the tables are part of the program.
func read(table string) map[string]row {
	words := map[string]grant{
		"keep": {}, "part": {as: inPart}, "day": {as: toTheDay}, "clean": {as: withoutIDs},
		"notice": {needs: isNotice}, "named": {needs: peerNamed}, "damage": {needs: peerDamage},
		"advised": {needs: expertShare}, "sanitised": {needs: isSanitised},
	}
	lines := strings.Split(strings.TrimSpace(table), "\n")
	columns := strings.Fields(lines[0])
	rows := make(map[string]row, len(lines))
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) != len(columns)+1 || rows[cells[0]] != nil {
			panic("anonymizer: the row has not one verdict a column, or stands twice: " + line)
		}
		r := make(row, len(columns))
		for i, cell := range cells[1:] {
			var v verdict
			if cell != "-" {
				for alternative := range strings.SplitSeq(cell, "|") {
					var g grant
					for word := range strings.SplitSeq(alternative, "+") {
						meaning, known := words[word]
						if !known {
							panic("anonymizer: there is no verdict " + word)
						}
						g.as = max(g.as, meaning.as)
						g.needs |= meaning.needs
					}
					v = append(v, g)
				}
			}
			flow, known := pb.Flow_value["FLOW_"+columns[i]]
			if !known {
				panic("anonymizer: there is no flow " + columns[i])
			}
			r[pb.Flow(flow)] = v
		}
		rows[cells[0]] = r
	}
	return rows
}

// step is one field of a message with its verdicts and the fields below it.
type step struct {
	field protoreflect.FieldDescriptor
	path  string
	row   row
	below []step
}

// along lays the table along a message. A field without a row gets no verdict
// and so does not travel.
func along(message protoreflect.MessageDescriptor, path string) []step {
	if message == nil || message.ParentFile().Package() != "minato.v1" {
		return nil // a time is a value
	}
	steps := make([]step, 0, message.Fields().Len())
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		name := path + string(field.Name())
		steps = append(steps, step{field, name, fieldRows[name], along(field.Message(), name+".")})
	}
	return steps
}
