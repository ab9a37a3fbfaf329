/* Binding of the BTAE decoder alone: tests and training use it; columns are decoded through decode_column. */
#include "module.h"

#include "btae.h"

/* btae_predict(section, latents, n_windows) -> bytes: n_windows * window int32, Q12. The GIL is released. */
PyObject *ddpy_btae_predict(PyObject *self, PyObject *args)
{
	Py_buffer section, latents;
	Py_ssize_t n_windows;
	PyObject *out = NULL, *result = NULL;
	void *block = NULL;
	dd_btae btae;
	dd_error err = {DD_OK, NULL, NULL};

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*n", &section, &latents, &n_windows))
		return NULL;
	if (dd_btae_open(section.buf, (size_t)section.len, &btae, &err) != DD_OK) {
		PyErr_SetString(PyExc_ValueError, err.what);
		goto done;
	}
	if (n_windows < 0 || n_windows > (Py_ssize_t)(DD_MAX_ROWS / dd_btae_window(&btae)) ||
	    (size_t)latents.len != (size_t)n_windows * dd_btae_latent_bytes(&btae)) {
		PyErr_SetString(PyExc_ValueError, "latents do not fit the number of windows");
		goto done;
	}
	/* the characters of a bytes object start 16-byte aligned (8 on 32-bit): enough for int32 */
	out = PyBytes_FromStringAndSize(NULL, n_windows * (Py_ssize_t)(dd_btae_window(&btae) * sizeof(int32_t)));
	block = PyMem_RawMalloc(dd_btae_scratch(&btae) + 15);
	if (out == NULL || block == NULL) {
		PyErr_NoMemory();
		goto done;
	}
	Py_BEGIN_ALLOW_THREADS;
	dd_btae_predict(&btae, latents.buf, (size_t)n_windows, (int32_t *)(void *)PyBytes_AS_STRING(out),
			(void *)(((uintptr_t)block + 15) & ~(uintptr_t)15));
	Py_END_ALLOW_THREADS;
	result = Py_NewRef(out);
done:
	PyMem_RawFree(block);
	Py_XDECREF(out);
	PyBuffer_Release(&section);
	PyBuffer_Release(&latents);
	return result;
}
