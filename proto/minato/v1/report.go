package minatov1

// Parts is everything that travels beside a report: its STIX bundle, then its
// attachments.
func (x *Report) Parts() (all []*Part) {
	if b := x.GetAttackTechnical().GetStixBundle(); b != nil {
		all = append(all, b)
	}
	return append(all, x.GetAttachments()...)
}
