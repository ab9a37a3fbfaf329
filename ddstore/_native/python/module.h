/* Functions of the Python module that live in files of their own. */
#ifndef DDPY_MODULE_H
#define DDPY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *ddpy_btae_predict(PyObject *self, PyObject *args);
PyObject *ddpy_net_trace(PyObject *self, PyObject *args);
PyObject *ddpy_inet_trace(PyObject *self, PyObject *args);
PyObject *ddpy_copy_encode(PyObject *self, PyObject *args);
PyObject *ddpy_copy_decode(PyObject *self, PyObject *args);
PyObject *ddpy_classify(PyObject *self, PyObject *args);
PyObject *ddpy_quantize(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ddpy_reconstruct(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *ddpy_shortest(PyObject *self, PyObject *args);
PyObject *ddpy_violations(PyObject *self, PyObject *args);
PyObject *ddpy_exact_sum(PyObject *self, PyObject *args);
PyObject *ddpy_roughness(PyObject *self, PyObject *args);
PyObject *ddpy_phase_roughness(PyObject *self, PyObject *args);
PyObject *ddpy_foretold(PyObject *self, PyObject *args);
PyObject *ddpy_find_grids(PyObject *self, PyObject *args);

#endif
