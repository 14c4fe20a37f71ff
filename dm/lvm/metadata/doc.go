// Package metadata reads what LVM has written on a physical volume, without LVM: which volume group it belongs to, and how much of
// that is free. It reads only, takes no lock, and believes nothing that its checksum does not confirm: whoever reads while LVM writes
// gets the state before or after, or an error.
//
// The format is LVM2's text format (lib/format_text/layout.h and lib/label/label.h of LVM2; it has not changed since 2004 but for what
// was appended):
//
//   - One of the first four sectors is the label: LABELONE, the sector's number, a checksum of the rest of the sector, and the offset of
//     the header: UUID and size of the physical volume, a list of the areas for data and one of those for metadata, each ended by zeros.
//   - A metadata area begins with a header of 512 bytes: checksum, a magic, version 1, its own place, and where the text is: offset in the
//     area, length, checksum, flags. The first is the committed one.
//   - The text is in a ring behind the header: what does not fit at the end of the area goes on behind the header.
//   - The text is a tree of sections "name { … }" with "key = value" in them, where a value is a number, a string or a list of them.
//
// Each physical volume of a group has the whole text (but for those that were told not to have any): the highest seqno counts.
package metadata
