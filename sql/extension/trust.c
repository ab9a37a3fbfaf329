/*
 * Columns coded by libbsc are decoded only by a build that has it, and only where a superuser has said that whoever can
 * write to segment tables may be trusted with the server's memory: forged bytes make libbsc overwrite it.
 */
#include "fdw.h"

#include "utils/guc.h"

#include "coder.h"

static bool trust_bsc = false;

void
ddfdw_trust_init(void)
{
	DefineCustomBoolVariable("ddstore.trust_bsc", "Decode columns that libbsc coded.",
							 "Forged bytes in a segment table can then overwrite the server's memory.", &trust_bsc, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

/* What decodes a column of this coder. */
DdfdwDecoder
ddfdw_decoder(DdfdwSegment *segment, AttrNumber attno, unsigned coder)
{
	const char *table = RelationGetRelationName(segment->companion);
	const char *column = NameStr(TupleDescAttr(RelationGetDescr(segment->companion), attno - 1)->attname);

	if (coder != DD_CODER_BSC)
		return dd_column_decode;
	if (dd_coder_bsc.encode == NULL)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("segment " INT64_FORMAT " of table \"%s\" cannot be read, column \"%s\": it is coded by libbsc",
					   segment->id, table, column),
				errdetail("This build of the extension lacks libbsc."),
				errhint("Build it with libbsc, or recode the table from Python that has it: \"ddstore release\", then "
						"compact again."));
	if (!trust_bsc)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("segment " INT64_FORMAT " of table \"%s\" is not read, column \"%s\": it is coded by libbsc",
					   segment->id, table, column),
				errdetail("Forged bytes make libbsc overwrite the server's memory."),
				errhint("If only trusted roles can write to the table, a superuser may set ddstore.trust_bsc; recode it "
						"with \"ddstore release\", then compact again."));
	segment->trusted = true;
	return dd_column_decode_trusting;
}
